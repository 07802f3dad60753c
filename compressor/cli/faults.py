"""What went wrong, as the user reads it: a message, a hint, a code word and an exit code."""

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.errors import CompressorError, suggestion

INTERRUPTED = 130
_REFUSALS = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EIO,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENFILE,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
)
"""What the system says of names and disks, never of our mistakes."""
_OURS = ("compressor_plugins", "compressor_zoo")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One error, ready to be printed; ``trace`` is empty where it was the user's to mend."""

    message: str
    hint: str | None
    code: str
    exit: int
    trace: str = ""

    def document(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        status = "stopped" if self.code == "stopped" else "error"
        return {
            "schema": 1,
            "status": status,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "exit": self.exit,
        }


def fault_of(error: BaseException) -> Fault:
    """Say what an exception means to the user."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, CompressorError):
        return Fault(message=error.message, hint=error.hint, code=error.code, exit=error.exit_code, trace=trace)
    if isinstance(error, KeyboardInterrupt):
        return Fault(message="interrupted", hint=None, code="stopped", exit=INTERRUPTED, trace=trace)
    if hasattr(error, "format_message"):
        return _of_parser(error)
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        said = f"the system refuses: {error.strerror}" + (f": {error.filename}" if error.filename else "")
        return Fault(message=said, hint=None, code="storage", exit=4, trace=trace)
    if isinstance(error, MemoryError):
        hint = "--batch-size smaller, or --micro-batches 2"
        return Fault(message="no memory left", hint=hint, code="training.memory", exit=5, trace=trace)
    text = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    if (culprit := _plugin_of(error)) is not None:
        hint = "report it to the authors of that package, with what --debug prints"
        return Fault(message=f"{said} (in the plugin {culprit})", hint=hint, code="plugin", exit=3, trace=trace)
    return Fault(
        message=f"{said} (a bug of ours, not of yours)",
        hint="run it again with --debug and report what it prints",
        code="bug",
        exit=1,
        trace=trace,
    )


def _plugin_of(error: BaseException) -> str | None:
    """Return the package and version of the plugin in whose code an exception was raised, None where in nobody's."""
    from compressor.registry import ARCHITECTURES, METHODS, names

    packages = {
        entry.value.partition(":")[0].partition(".")[0]: entry.package
        for group in (METHODS, ARCHITECTURES)
        for entries in names(group).values()
        for entry in entries
    }
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    roots = [name.partition(".")[0] for name in frames]
    return next((packages[root] for root in reversed(roots) if root in packages and root not in _OURS), None)


def _of_parser(error: Any) -> Fault:
    """Put a complaint of the argument parser into our words; its classes differ between releases, its names do not."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "compress"
    message = str(error.format_message()).strip().rstrip(".")
    hint = f"{path} --help"
    option = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and option:
        message = f"{path} has no option {option!r}"
        near = suggestion(option, _options(context))
        hint = near if near.startswith("did") else hint
    elif message.startswith("No such command"):
        given = message.split("'")[1] if "'" in message else ""
        message = f"no command {given!r}"
        near = suggestion(given, context.command.list_commands(context)) if context is not None else ""
        hint = near if near.startswith("did") else hint
    else:
        message = message.replace(": Value error, ", ": ")
        message = message[:1].lower() + message[1:]
    return Fault(message=message, hint=hint, code="usage", exit=2)


def _options(context: Any) -> list[str]:
    if context is None:
        return []
    return [name for item in context.command.params for name in (*item.opts, *item.secondary_opts)]


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Write the traceback of whatever goes wrong inside into a run's ``log.txt``, where the run has a folder."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        from compressor.storage import append_line

        if (folder / "run.json").is_file():
            with suppress(CompressorError):  # a full disk must not hide what went wrong
                for line in "".join(traceback.format_exception(error)).splitlines():
                    append_line(folder / "log.txt", line)
        raise
