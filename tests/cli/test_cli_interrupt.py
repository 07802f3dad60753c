"""Ctrl-C before a run has begun: it ends at once where something is imported, as packages take it for a broken one."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compressor.__main__ import interrupt

IMPORTING = """
import signal, sys
sys.path.insert(0, {folder!r})
from compressor.__main__ import interrupt
signal.signal(signal.SIGINT, interrupt)
try:
    import stubborn
except Exception:
    print("went on")
"""
STUBBORN = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(100_000): pass
except KeyboardInterrupt as cause:
    raise ImportError("broken installation") from cause
"""


def test_a_package_that_is_being_imported_cannot_swallow_it(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING.format(folder=str(tmp_path))], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


def test_elsewhere_it_is_the_usual_exception() -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt(signal.SIGINT, None)
