"""The command line in this process, with streams that can be read afterwards."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from compressor.cli.main import main
from compressor.cli.manner import read_manner
from compressor.cli.output import Output


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


Compress = Callable[..., Said]


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean environment and an empty working folder: no user config, no bank, no COMPRESS_ variables."""
    for name in [name for name in os.environ if name.startswith("COMPRESS_")]:
        monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "CI", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)


@pytest.fixture
def compress() -> Compress:
    """Return a function that runs a command line, piped or (``terminal=True``) on a terminal."""

    def run(*arguments: str, terminal: bool = False) -> Said:
        kind = Terminal if terminal else io.StringIO
        out, err = kind(), kind()
        output = Output(read_manner(arguments, os.environ), stdout=out, stderr=err)
        code = main(list(arguments), output)
        return Said(code, out.getvalue(), err.getvalue())

    return run
