"""Where the command line speaks: results on stdout, talk on stderr, each in the manner that was asked for."""

import errno
import io
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from compressor.cli.faults import Fault
from compressor.cli.manner import Manner, is_terminal, wants_color, width
from compressor.errors import StorageError

_RED, _YELLOW, _DIM, _PLAIN = "\x1b[1;31m", "\x1b[1;33m", "\x1b[2m", "\x1b[0m"
_LONGEST = 200
_LONGEST_MESSAGE = 2000
_CONTROLS = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")  # but tab, line end, colours


class Output:
    """The two streams of the process and the rules for them.

    Args:
        manner: what was asked for. stdout, stderr: None takes the process's own.
        environ: for ``NO_COLOR``, ``TERM``, ``COLUMNS``, ``CI``; None takes the process's own.
    """

    def __init__(
        self,
        manner: Manner,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.manner = manner
        self.environ = os.environ if environ is None else environ
        self._stdout = stdout or sys.stdout or _nowhere()
        self.stderr = stderr or sys.stderr or _nowhere()
        self.colored = wants_color(self.stderr, manner.color, self.environ)
        self.terminal = is_terminal(self.stderr, self.environ)
        self.live = self.terminal and manner.progress and not manner.quiet
        self.columns = width(self.environ)
        self.above: Callable[[str], None] | None = None  # while a live line is drawn: prints above it

    @property
    def shows_result(self) -> bool:
        """Whether stdout is read by somebody who does not see the talk: then it gets the result's path."""
        return not self.manner.json and (self.manner.quiet or not is_terminal(self._stdout, self.environ))

    @property
    def rich_tables(self) -> bool:
        """Whether tables on stdout are for eyes; otherwise they are tab-separated."""
        return is_terminal(self._stdout, self.environ)

    def talk(self, text: str) -> None:
        """Say something that is not the result; nothing with ``--quiet``."""
        if not self.manner.quiet:
            self._to_stderr(text)

    def detail(self, text: str) -> None:
        """Say something only with ``--verbose``."""
        if self.manner.verbose:
            self.talk(self.dim(text))

    def warn(self, message: str) -> None:
        """Say what the user should know even with ``--quiet``."""
        self._to_stderr(f"{self._in(_YELLOW, 'warning:')} {_one_line(message)}")

    def fail(self, fault: Fault, *, documented: bool = False) -> None:
        """Say what went wrong, in two lines, and in the document that ``--json`` promises.

        Args:
            documented: the document has been written already.
        """
        word = "stopped:" if fault.code == "stopped" else "error:"
        self._to_stderr(f"{self._in(_RED, word)} {_one_line(fault.message)}")
        if fault.hint:
            self._to_stderr(f"hint:  {_one_line(fault.hint)}")
        if fault.trace and (self.manner.debug or self.manner.verbose):
            self._to_stderr(fault.trace.rstrip() if self.manner.debug else f"where: {_place(fault.trace)}")
        if self.manner.json and not documented:
            self.document(fault.document())

    def result(self, text: str) -> None:
        """Write a result on stdout."""
        _write(self._stdout, _harmless(text) + "\n", must_arrive=True)

    def document(self, value: Mapping[str, Any]) -> None:
        """Write the one JSON document of ``--json``; numbers that are not finite become null."""
        text = json.dumps(_finite(value), ensure_ascii=False, default=str, allow_nan=False)
        _write(self._stdout, text + "\n", must_arrive=True)

    def dim(self, text: str) -> str:
        """Return text that is less important."""
        return self._in(_DIM, text)

    def _in(self, color: str, text: str) -> str:
        return f"{color}{text}{_PLAIN}" if self.colored else text

    def _to_stderr(self, text: str) -> None:
        text = _harmless(text)
        if self.above is not None:
            self.above(text)
        elif self.terminal:
            _write(self.stderr, text + "\n")
        else:
            _write(self.stderr, "\n".join(map(_fitting, text.split("\n"))) + "\n")


def _nowhere() -> TextIO:
    """Return a stream that keeps nothing, for a process that was started with a closed one."""
    return io.StringIO()


def silence(stream: TextIO) -> None:
    """Send everything that is still to come for a stream whose reader has gone to nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # it is no file of the system, so nobody waits behind it
        return


class Patient:
    """A stream that somebody else writes to, whose reader may go, as a terminal that is closed: that is no error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or from now on nowhere."""
        try:
            return self._stream.write(text)
        except OSError:
            silence(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush, or from now on nothing."""
        try:
            self._stream.flush()
        except OSError:
            silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _write(stream: TextIO, text: str, *, must_arrive: bool = False) -> None:
    """Write, with a question mark for letters that the stream's encoding does not have.

    A reader that has gone, such as ``head``, is no error; neither is a stream that was closed.

    Raises:
        StorageError: ``must_arrive``, and the disk behind the stream took it not.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(text.encode(encoding, errors="replace").decode(encoding))
        stream.flush()
    except ValueError:  # closed
        return
    except OSError as cause:
        silence(stream)
        if must_arrive and cause.errno not in (errno.EPIPE, errno.EIO, errno.EBADF):
            raise StorageError(f"cannot write the result to stdout: {cause.strerror}") from cause


def _fitting(line: str) -> str:
    """Break a line that is too long for a log."""
    return line if len(line) <= _LONGEST else textwrap.fill(line, _LONGEST, subsequent_indent="  ")


def _one_line(text: str) -> str:
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return words if len(words) <= _LONGEST_MESSAGE else f"{words[:_LONGEST_MESSAGE]} ..."


def _harmless(text: str) -> str:
    """Replace what would move a terminal's cursor or change its settings: names out of files may hold it."""
    return _CONTROLS.sub("?", text)


def _place(trace: str) -> str:
    places = [line.strip() for line in trace.splitlines() if line.strip().startswith("File ")]
    return places[-1] if places else "unknown"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
