"""The real thing, small: one distillation through pipes, and what the same and other command lines do then."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LINE = [
    "distill",
    "-m",
    "kd",
    "-t",
    "resnet8",
    "-s",
    "resnet8",
    "--epochs",
    "2",
    "--set",
    "teacher_training.epochs=8",
    "--threads",
    "1",
]


def _compress(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "compressor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "80"})


def test_a_run_through_pipes_ends_with_the_students_folder_and_is_found_again() -> None:
    dry = _compress(*LINE, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.endswith("Nothing was written.\n")
    assert not Path("runs").exists()

    first = _compress(*LINE)
    assert first.returncode == 0, first.stderr
    student = Path(first.stdout.strip())
    assert (student / "model.safetensors").is_file()
    assert "\x1b" not in first.stderr
    assert max(map(len, first.stderr.splitlines())) <= 200
    assert re.search(r"^\S+Z epoch=2/2 step=\d+/\d+ loss=\S+ ", first.stderr, re.MULTILINE)
    assert re.search(
        r"^\S+Z done top1=\d+\.\d teacher=\d+\.\d seconds=\d+ cpu_seconds=\d+$", first.stderr, re.MULTILINE
    )

    again = _compress(*LINE, "--json")
    document = json.loads(again.stdout)
    assert (again.returncode, document["status"], document["exit"]) == (0, "done", 0)
    assert Path(document["student"]["folder"]).resolve() == student.resolve()
    assert "epoch=" not in again.stderr

    shown = _compress("show", str(student.parent))
    assert shown.stdout.splitlines()[1] == "State    done"
    other = _compress(*LINE, "--out", str(student.parent), "--lr", "0.0123")
    assert other.returncode == 2
    assert re.search(r"^error: --out .* was made with other settings: training.lr \S+ -> 0.0123$", other.stderr, re.M)
