"""The house's own rules: lint, format, types, import arrows. They run as tests so that one command runs everything."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    _run(str(BIN / "ruff"), "check", "--no-cache", ".")


def test_every_file_is_formatted() -> None:
    _run(str(BIN / "ruff"), "format", "--no-cache", "--check", ".")


@pytest.mark.slow
def test_mypy_strict_is_silent() -> None:
    _run(sys.executable, "-m", "mypy")


def test_imports_point_downwards() -> None:
    _run(str(BIN / "lint-imports"), "--no-cache")
