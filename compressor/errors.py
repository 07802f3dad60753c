"""Everything that a user can be told to mend, each kind with its exit code.

The message says what was given and what is allowed, the hint what to type next. An exception that is not a
`CompressorError` is a bug of ours: it ends with exit code 1 and a traceback in the log.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class CompressorError(Exception):
    """One line for the user.

    Args:
        message: what is wrong, with the value that was given.
        hint: what to type next; None where nothing sensible can be said.
        code: a stable dotted word for ``--json``, such as ``data.bad_images``.
    """

    exit_code: int = 1
    default_code: str = "error"

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code


class UsageError(CompressorError):
    """An option, a setting or a combination of them is wrong: nothing was started."""

    exit_code = 2
    default_code = "usage"


class InputError(CompressorError):
    """Data, weights, a plugin or a checkpoint that was given cannot be used."""

    exit_code = 3
    default_code = "input"


class PluginError(InputError):
    """A plugin does not keep the contract; the message lists every fault."""

    default_code = "plugin"


class UnsupportedPair(InputError):
    """A method cannot work on this pair of networks; the message names what is missing."""

    default_code = "method.unsupported_pair"


class StorageError(CompressorError):
    """The disk is full, read-only, broken, or a folder is in use."""

    exit_code = 4
    default_code = "storage"


class TrainingError(CompressorError):
    """Training cannot go on: a loss that is not finite, or no memory left."""

    exit_code = 5
    default_code = "training"


class GateError(CompressorError):
    """A condition that the user set on the result is not met."""

    exit_code = 6
    default_code = "gate"


class Stopped(CompressorError):
    """The run was asked to stop and has saved its place.

    Args:
        exit_code: 130 after Ctrl-C or a spent time budget, 143 after SIGTERM.
    """

    default_code = "stopped"

    def __init__(self, message: str, *, exit_code: int = 130, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def suggestion(given: str, known: Iterable[str], *, most: int = 3) -> str:
    """Name the known words nearest to a mistyped one.

    Returns:
        ``"did you mean kd, dkd?"``, or ``"known: ..."`` when nothing is near and the list is short, or ``""``.
    """
    words = sorted(known)
    near = get_close_matches(given, words, n=most, cutoff=0.6)
    if near:
        return f"did you mean {', '.join(near)}?"
    return f"known: {', '.join(words)}" if 0 < len(words) <= 12 else ""
