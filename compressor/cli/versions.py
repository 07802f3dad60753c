"""Versions of what a result depends on, read from what is installed; nothing is imported."""

import platform
from importlib.metadata import PackageNotFoundError, version

from compressor import __version__

PACKAGES = ("torch", "timm", "torchvision", "accelerate", "safetensors")


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of this program, Python and some packages (by default `PACKAGES`), ``missing`` for none."""
    known = {"compress": __version__, "python": platform.python_version()}
    return known | {name: _installed(name) for name in packages or PACKAGES}


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
