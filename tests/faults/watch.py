"""An audit hook that sees, and forbids, what no file of a stranger may bring about: calls, sockets, strange files.

A hook cannot be taken back, so it is set only in a forked child (see `hostile_children`).
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

TOKEN = "hostile_token"
"""Stands in every command, file name and module that a payload of `payloads` uses."""

_NEVER = (
    "code.__new__",
    "ctypes.dlopen",
    "ftplib.",
    "http.client.",
    "imaplib.",
    "nntplib.",
    "os.chdir",
    "os.chmod",
    "os.chown",
    "os.exec",
    "os.fork",
    "os.kill",
    "os.link",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pickle.find_class",
    "poplib.",
    "pty.",
    "smtplib.",
    "socket.",
    "subprocess.",
    "sys.addaudithook",
    "syslog.",
    "telnetlib.",
    "urllib.",
    "webbrowser.",
)
_CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate", "os.utime")
_NAMES = ("os.remove", "os.rename", "os.rmdir", "os.symlink")  # of a link: they change it, not what it points at
_LOOKS = ("os.listdir", "os.scandir", *_CHANGES)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Forbidden(BaseException):
    """Raised inside whatever was about to do it; not an Exception, so that nothing turns it into a message."""


class Watch:
    """What was seen while it was armed.

    Args:
        writable: folders in which files may be made, changed and removed.
        secret: a folder of which nothing may be opened, listed or changed; None for none.
        overlooked: an event that is let pass, to see what comes after it.
    """

    def __init__(self, writable: list[Path], secret: Path | None = None, overlooked: str = "") -> None:
        self.seen: list[str] = []
        self._writable = [os.path.realpath(place) for place in writable]
        self._secret = None if secret is None else os.path.realpath(secret)
        self._overlooked = overlooked
        self._armed = False
        sys.addaudithook(self._hook)

    @contextmanager
    def armed(self) -> Iterator[list[str]]:
        """Forbid and note; gives the list that the notes go into."""
        self.seen = []
        self._armed = True
        try:
            yield self.seen
        finally:
            self._armed = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._armed or event == self._overlooked:
            return
        self._armed = False  # looking at the arguments may itself raise events
        try:
            fault = self._fault(event, arguments)
        finally:
            self._armed = True
        if fault is not None:
            self.seen.append(fault)
            raise Forbidden(fault)

    def _fault(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        if (event == "ctypes.dlopen" and arguments[0] is None) or event == "socket.gethostname":
            return None  # looking at itself
        if event.startswith(_NEVER):
            return f"{event}{_short(arguments)}"
        if event == "marshal.loads" and not _importing(sys._getframe(2)):
            return "marshal.loads"
        if event in ("compile", "exec", "import") and TOKEN in _text_of(arguments[0]):
            return f"{event} {TOKEN}"
        if event == "open":
            return self._opened(*arguments)
        if event in _LOOKS or event.startswith("shutil."):
            paths = [name for name in arguments if isinstance(name, (str, bytes, os.PathLike))]
            return self._touched(event, paths, following=event not in _NAMES)
        return None

    def _opened(self, path: Any, mode: Any, flags: Any) -> str | None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return None  # a descriptor: opening it was an event of its own
        writing = isinstance(flags, int) and bool(flags & _WRITING)
        following = not (isinstance(flags, int) and flags & os.O_NOFOLLOW)
        return self._touched("open to write" if writing else "open to read", [path], following=following)

    def _touched(self, event: str, paths: list[Any], *, following: bool) -> str | None:
        changing = event == "open to write" or event in _CHANGES or event.startswith("shutil.")
        for path in paths:
            real = _place(os.fsdecode(path), following=following)
            if self._secret is not None and _below(real, self._secret):
                return f"{event} {real}"
            if changing and real != os.devnull and not any(_below(real, place) for place in self._writable):
                return f"{event} {real}"
        return None


def _place(path: str, *, following: bool) -> str:
    """Return where a path leads; a link at its last name is only followed by an operation that follows it."""
    if following:
        return os.path.realpath(path)
    return os.path.realpath(Path(path).parent) + os.sep + Path(path).name


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _importing(frame: FrameType | None) -> bool:
    """Tell whether Python itself reads a compiled module, from where installed code lies."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap_external>":
            return True
        frame = frame.f_back
    return False


def _text_of(value: Any) -> str:
    if isinstance(value, CodeType):
        return repr((value.co_filename, value.co_names, value.co_consts))
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _short(arguments: tuple[Any, ...]) -> str:
    return repr(arguments)[:120]
