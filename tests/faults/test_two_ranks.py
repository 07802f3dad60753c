"""N2, N3, N4, G1: two processes give what one gives; when one is killed or asked to stop, nobody is left hanging."""

import csv
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
from fault_client import Child
from fault_runs import Stage, distill, environ, student
from figures import note

from compressor.storage import read_tensors

TOGETHER = distill(training__micro_batches=2)
EVEN = 26  # 130 images in five batches: none is so small that two parts of it would be left out
PLAIN = "fault_networks:without_statistics"
ENDS_WITHIN = 60.0


def ranks(stage: Stage, args: list[str], place: Path, hold_at: str | None = None) -> list[Child]:
    """Start two processes as torchrun does, without the seconds it takes to import everything twice.

    Args:
        hold_at: words of the first one at which it waits; the other then waits for it.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        stage.server.start(
            "compress",
            place,
            {**environ(place), **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            args=[*args, "--processes", "2"],
            hold_at=None if rank else hold_at,
        )
        for rank in range(2)
    ]


def finish(children: list[Child]) -> list[int]:
    return [child.wait(ENDS_WITHIN) for child in children]


def trained(place: Path) -> dict[str, torch.Tensor]:
    """Weights without batch statistics, of which only the first process's are kept."""
    tensors = read_tensors(place / "run" / "student" / "model.safetensors")
    return {name: value for name, value in tensors.items() if "running_" not in name and "num_batches" not in name}


def losses(place: Path) -> list[float]:
    with (place / "run" / "metrics.csv").open(newline="") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


def test_two_processes_are_bit_equal_to_one_with_two_micro_batches(stage: Stage) -> None:
    one, two = stage.place(), stage.place()
    assert stage.run(TOGETHER, one).status == 0
    children = ranks(stage, TOGETHER, two)
    assert finish(children) == [0, 0], children[0].output
    alone, together = trained(one), trained(two)
    assert alone.keys() == together.keys()
    assert all(torch.equal(alone[name], together[name]) for name in alone)
    assert losses(one) == pytest.approx(losses(two), abs=1e-6)
    assert "batch statistics" not in children[0].output
    note("N2", tried=1, exits=[0, 0])


def test_without_batch_statistics_two_processes_are_close_to_one_with_none_asked_for(stage: Stage) -> None:
    args = distill(student__name=PLAIN, training__batch_size=EVEN)
    one, two = stage.place(), stage.place()
    assert stage.run(args, one).status == 0
    children = ranks(stage, args, two)
    assert finish(children) == [0, 0], children[0].output
    alone, together = trained(one), trained(two)
    assert max((alone[name] - together[name]).abs().max().item() for name in alone) < 1e-5
    assert losses(one) == pytest.approx(losses(two), abs=1e-5)
    note("N2", tried=1, exits=[0, 0])


def test_batch_statistics_without_micro_batches_are_warned_of(stage: Stage) -> None:
    place = stage.place()
    children = ranks(stage, distill(training__epochs=1), place)
    assert finish(children) == [0, 0], children[0].output
    assert "warning: with 2 processes and --micro-batches 1 batch statistics depend on" in children[0].output
    note("N2", tried=1, exits=[0, 0])


@pytest.mark.parametrize("victim", [0, 1])
def test_killed_rank_ends_the_other_and_the_same_command_goes_on(victim: int, stage: Stage) -> None:
    undisturbed, place = stage.place(), stage.place()
    assert finish(ranks(stage, TOGETHER, undisturbed)) == [0, 0]
    children = ranks(stage, TOGETHER, place, hold_at="run saved 8")
    assert children[0].hear("run saved 8")
    began = time.monotonic()
    children[victim].signal(signal.SIGKILL)
    children[0].release()
    other = children[1 - victim].wait(ENDS_WITHIN)
    assert children[victim].wait() == -signal.SIGKILL
    assert other == 5, children[0].output
    assert "error: another process of this run has ended" in children[0].output
    assert time.monotonic() - began < ENDS_WITHIN
    again = ranks(stage, TOGETHER, place)
    assert finish(again) == [0, 0], again[0].output
    assert again[0].last("run student from") == 8
    assert student(place) == student(undisturbed)
    note("N4", tried=1, exits=[other])


@pytest.mark.parametrize("shot", [0, 1])
def test_signal_to_one_rank_stops_both_at_one_step(shot: int, stage: Stage) -> None:
    undisturbed, place = stage.place(), stage.place()
    assert finish(ranks(stage, TOGETHER, undisturbed)) == [0, 0]
    children = ranks(stage, TOGETHER, place, hold_at="run saved 4")
    assert children[0].hear("run saved 4")
    children[shot].signal(signal.SIGTERM)
    children[0].release()
    codes = finish(children)
    assert codes[shot] == 143, children[0].output
    assert codes[1 - shot] in (130, 143)
    assert finish(ranks(stage, TOGETHER, place)) == [0, 0]
    assert student(place) == student(undisturbed)
    note("G1", tried=1, exits=codes)


def test_one_process_where_two_were_asked_for_is_refused(stage: Stage) -> None:
    place = stage.place()
    child = stage.run([*TOGETHER, "--processes", "2"], place)
    assert child.status == 2
    assert "launched with 1 of 2 processes" in child.output
    assert "torchrun" in child.output
    assert not (place / "run").exists()
    note("N3", tried=1, exits=[2])
