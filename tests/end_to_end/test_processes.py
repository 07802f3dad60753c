"""Two processes do what one process does with the same micro-batches; fewer than asked for are refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import TINY

from compressor.storage import read_tensors

SETTINGS = {**TINY, "method.name": "kd", "training.epochs": 2, "training.micro_batches": 2, "runtime.threads": 1}


def _run(folder: Path, out: str, processes: int, *launcher: str, **changes: object) -> subprocess.CompletedProcess[str]:
    given = {**SETTINGS, **{key.replace("__", "."): value for key, value in changes.items()}}
    settings = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    command = [
        sys.executable,
        *launcher,
        "-m",
        "compressor",
        "distill",
        "--device",
        "cpu",
        "--processes",
        str(processes),
    ]
    return subprocess.run(
        [*command, "--out", out, *settings],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one_with_two_micro_batches(tiny: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    together = _run(tiny, "two", 2, *launcher)
    assert together.returncode == 0, together.stderr[-3000:]
    alone = _run(tiny, "one", 1)
    assert alone.returncode == 0, alone.stderr[-3000:]
    two, one = (read_tensors(tiny / name / "student" / "model.safetensors") for name in ("two", "one"))
    trained = [name for name in one if "running_" not in name and "num_batches" not in name]
    assert trained
    for name in trained:  # batch statistics are each process's own: only the first one's are kept
        assert torch.equal(two[name], one[name]), name


@pytest.mark.slow
def test_two_processes_share_the_answers_that_each_of_them_kept(tiny: Path) -> None:
    pool = {"data__augmentation_pool": 2, "training__epochs": 4}
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    together = _run(tiny, "two", 2, *launcher, **pool)
    assert together.returncode == 0, together.stderr[-3000:]
    files = sorted((tiny / "cache" / "compress" / "answers").rglob("*.safetensors"))
    rows = torch.cat([read_tensors(file)["rows"] for file in files])
    assert torch.equal(rows.sort().values, torch.arange(2 * 270))  # each draw of each image, by one of the two
    alone = _run(tiny, "one", 1, **pool)
    assert alone.returncode == 0, alone.stderr[-3000:]
    assert sorted((tiny / "cache" / "compress" / "answers").rglob("*.safetensors")) == files
    two, one = (read_tensors(tiny / name / "student" / "model.safetensors") for name in ("two", "one"))
    trained = [name for name in one if "running_" not in name and "num_batches" not in name]
    for name in trained:
        assert torch.equal(two[name], one[name]), name


def test_fewer_processes_than_asked_for_are_refused_at_once(tiny: Path) -> None:
    done = _run(tiny, "run", 2)
    assert done.returncode == 2
    assert "launched with 1 of 2 processes" in done.stderr
    assert not (tiny / "run").exists()
