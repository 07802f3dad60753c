"""How the command line is to speak: read from the arguments and the environment before any command runs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

_YES = ("1", "true", "yes", "on")


@dataclass(frozen=True, kw_only=True)
class Manner:
    """What was asked for with the options that every command knows.

    Args:
        json: one JSON document on stdout, also for errors. quiet: only the result's path.
        verbose: say more. color: ``auto``, ``always`` or ``never``. progress: show the live line.
        debug: show the traceback of an error.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    color: str = "auto"
    progress: bool = True
    debug: bool = False


def read_manner(arguments: Sequence[str], environ: Mapping[str, str]) -> Manner:
    """Find the global options wherever they stand, before or behind the command's name.

    They are looked for here, and not where the command's own options are parsed, because an error in those must
    already be told in the manner that was asked for.
    """
    given = set(_words(arguments))

    def asked(name: str, *short: str) -> bool:
        return not given.isdisjoint({f"--{name}", *short}) or truth(environ.get(_variable(name), ""))

    return Manner(
        json=asked("json"),
        quiet=asked("quiet", "-q"),
        verbose=asked("verbose", "-v"),
        color=_color(arguments, environ),
        progress=not asked("no-progress"),
        debug=asked("debug"),
    )


def truth(text: str) -> bool:
    """Say whether an environment variable's value means yes."""
    return text.strip().lower() in _YES


def is_terminal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Say whether a live line may be drawn on ``stream``: a terminal that can move its cursor, and no CI."""
    return _isatty(stream) and environ.get("TERM") != "dumb" and not environ.get("CI")


def wants_color(stream: TextIO, color: str, environ: Mapping[str, str]) -> bool:
    """Say whether colours may be written on ``stream``."""
    if color != "auto":
        return color == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return _isatty(stream) and environ.get("TERM") != "dumb"


def width(environ: Mapping[str, str]) -> int:
    """Return how many columns a line may have: ``COLUMNS``, the terminal's, or 80; never below 40."""
    given = environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return max(40, int(given))
    try:
        return max(40, os.get_terminal_size(2).columns)
    except (OSError, ValueError):
        return 80


def _isatty(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False


def _words(arguments: Sequence[str]) -> Iterator[str]:
    for word in arguments:
        if word == "--":
            return
        if len(word) > 2 and word[0] == "-" and set(word[1:]) <= set("qv"):
            yield from (f"-{letter}" for letter in word[1:])
        else:
            yield word


def _color(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    words = list(_words(arguments))
    for place in range(len(words) - 1, -1, -1):
        if words[place].startswith("--color="):
            return words[place].partition("=")[2]
        if words[place] == "--color" and place + 1 < len(words):
            return words[place + 1]
    return environ.get(_variable("color"), "auto")


def _variable(option: str) -> str:
    return f"COMPRESS_{option.replace('-', '_').upper()}"
