"""Work that is recorded and repeated does what the work itself does, or the work itself is done."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from compressor.engine.capture import GraphRecorder, Recorder, recorder_for
from compressor.engine.repeated import CHECKS, WARM_UP, Repeated
from compressor.errors import TrainingError

FIRST = WARM_UP + CHECKS


class Summing:
    """Adds what it is given to a state, and returns the state's square."""

    def __init__(self, recorder: Recorder) -> None:
        self.total = torch.zeros(3)
        self.warnings: list[str] = []
        self.calls = 0
        self.factor = 1.0
        self.repeated = Repeated(recorder, lambda: [self.total], self.warnings.append)

    def work(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        self.calls += 1
        self.total += self.factor * inputs[0]
        return [self.total**2]

    def __call__(self, tensor: Tensor) -> Tensor:
        return self.repeated(self.work, [tensor])[0]


def inputs(count: int, width: int = 3) -> Iterator[Tensor]:
    for number in range(count):
        yield torch.full((width,), float(number + 1))


class Frozen(Recorder):
    """Keeps Python numbers as they were when the work was recorded, as a graph does."""

    def __init__(self, summing: "list[Summing]") -> None:
        self.summing = summing

    def record(self, work: Callable[[], Sequence[Tensor]]) -> Callable[[], Sequence[Tensor]]:
        [owner] = self.summing
        factor = owner.factor

        def again() -> Sequence[Tensor]:
            now, owner.factor = owner.factor, factor
            try:
                return work()
            finally:
                owner.factor = now

        return again


class Broken(Recorder):
    """Fails while it records, when half of the work is done."""

    def record(self, work: Callable[[], Sequence[Tensor]]) -> Callable[[], Sequence[Tensor]]:
        work()
        raise RuntimeError("operation not permitted when stream is capturing\nand a second line")


class Strict(Recorder):
    """Refuses to wait, as a device in that mode does."""

    @contextmanager
    def strict(self) -> Iterator[None]:
        raise RuntimeError("called a synchronizing CUDA operation")
        yield


def test_repeated_work_gives_the_state_and_results_of_the_work() -> None:
    repeated, plain = Summing(Recorder()), Summing(Recorder())
    for tensor in inputs(FIRST + 4):
        assert torch.equal(repeated(tensor), plain.work([tensor])[0])
        assert torch.equal(repeated.total, plain.total)
    assert repeated.repeated.recorded
    assert repeated.warnings == []


def test_recording_reads_its_own_memory_and_gives_away_copies() -> None:
    summing = Summing(Recorder())
    given = list(inputs(FIRST + 2))
    answers = [summing(tensor) for tensor in given]
    kept = [answer.clone() for answer in answers]
    for tensor in given:
        tensor.zero_()
    summing(torch.ones(3))
    assert all(torch.equal(one, other) for one, other in zip(answers, kept, strict=True))


def test_other_shapes_are_worked_on_as_they_stand() -> None:
    summing = Summing(Recorder())
    for tensor in inputs(FIRST):
        summing(tensor)
    before = summing.total.clone()
    summing(torch.tensor([2.0]))  # added to each of the three
    assert torch.equal(summing.total, before + 2)
    summing(torch.ones(3))
    assert torch.equal(summing.total, before + 3)
    assert summing.repeated.recorded


def test_shape_that_comes_first_but_rarely_is_not_the_one_that_is_recorded() -> None:
    summing = Summing(Recorder())
    summing(torch.tensor([1.0]))  # a run that goes on amid its last, smaller batch
    for tensor in inputs(FIRST):
        summing(tensor)
    assert summing.repeated.recorded


def test_number_that_changes_is_found_and_the_work_goes_on_without_a_recording() -> None:
    owners: list[Summing] = []
    summing = Summing(Frozen(owners))
    owners.append(summing)
    plain = Summing(Recorder())
    for number, tensor in enumerate(inputs(FIRST + 3)):
        summing.factor = plain.factor = 1.0 + number
        assert torch.equal(summing(tensor), plain.work([tensor])[0])
        assert torch.equal(summing.total, plain.total)
    assert summing.warnings == ["a recorded step came out otherwise"]
    assert not summing.repeated.recorded


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (Broken(), "RuntimeError: operation not permitted when stream is capturing"),
        (Strict(), "RuntimeError: called a synchronizing CUDA operation"),
    ],
)
def test_recording_that_fails_undoes_itself_and_is_told_once(recorder: Recorder, reason: str) -> None:
    summing, plain = Summing(recorder), Summing(Recorder())
    for tensor in inputs(FIRST + 3):
        assert torch.equal(summing(tensor), plain.work([tensor])[0])
    assert torch.equal(summing.total, plain.total)
    assert summing.warnings == [reason]


def test_error_of_the_run_itself_is_no_matter_of_recording() -> None:
    summing = Summing(Recorder())

    def work(tensors: Sequence[Tensor]) -> list[Tensor]:
        if summing.calls == WARM_UP:
            raise TrainingError("loss became NaN")
        return summing.work(tensors)

    for tensor in inputs(WARM_UP):
        summing.repeated(work, [tensor])
    with pytest.raises(TrainingError, match="loss became NaN"):
        summing.repeated(work, [torch.ones(3)])
    assert summing.warnings == []


def test_results_that_are_lost_alike_agree() -> None:
    summing = Summing(Recorder())
    for _ in range(FIRST):
        summing(torch.full((3,), torch.nan))
    assert summing.repeated.recorded


def test_preparation_comes_before_each_time() -> None:
    summing, prepared = Summing(Recorder()), [0]

    def prepare() -> None:
        prepared[0] += 1

    for tensor in inputs(FIRST + 3):
        summing.repeated(summing.work, [tensor], prepare)
    assert prepared == [summing.calls] == [WARM_UP + 2 * CHECKS + 3]


def test_what_was_forgotten_is_recorded_anew() -> None:
    summing = Summing(Recorder())
    for tensor in inputs(FIRST):
        summing(tensor)
    summing.repeated.forget()
    assert not summing.repeated.recorded
    for tensor in inputs(CHECKS):
        summing(tensor)
    assert summing.repeated.recorded


@pytest.mark.parametrize(
    ("wish", "processes", "kind"), [("auto", 1, None), ("off", 1, None), ("on", 2, None), ("on", 1, Recorder)]
)
def test_cpu_records_only_when_it_is_told_to(wish: str, processes: int, kind: type[Recorder] | None) -> None:
    recorder = recorder_for(torch.device("cpu"), wish, processes)
    assert recorder is None if kind is None else type(recorder) is kind


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_graph_does_what_the_work_does() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    recorder = recorder_for(device, "auto", 1)
    assert isinstance(recorder, GraphRecorder)
    repeated, plain = Summing(recorder), Summing(Recorder())
    repeated.total, plain.total = repeated.total.to(device), plain.total.to(device)
    for tensor in inputs(FIRST + 4):
        assert torch.equal(repeated(tensor.to(device)), plain.work([tensor.to(device)])[0])
    assert repeated.repeated.recorded
    assert repeated.calls == WARM_UP + CHECKS + 1  # recorded once, and never called again
    assert repeated.warnings == []
