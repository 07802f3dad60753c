"""Where things that outlive a run are kept: trained teachers and artefacts of them. Nothing else goes into HOME."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/compress``, by default ``~/.cache/compress``; it need not exist."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "compress"


def user_config_file() -> Path:
    """Return ``$XDG_CONFIG_HOME/compress/config.toml``, by default below ``~/.config``; it need not exist."""
    root = os.environ.get("XDG_CONFIG_HOME")
    return (Path(root) if root else Path.home() / ".config") / "compress" / "config.toml"
