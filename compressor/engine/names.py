"""Names for folders, made out of anything a user may call a model or a data set."""

from pathlib import Path


def safe(name: str) -> str:
    """Make a short folder-name part out of any name: letters, digits, dot, dash and underscore."""
    kept = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in Path(name).name or name)
    return kept.strip(".-")[:48] or "data"
