"""The same work on new tensors again and again: first as it stands, then from a recording that was found to agree."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from compressor.engine.capture import Recorder
from compressor.errors import CompressorError

WARM_UP, CHECKS = 3, 2
_OF_A_CHANGE, _OF_ALL_CHANGES, _OF_A_RESULT = 0.2, 1e-3, 1e-3

Work = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""From tensors to tensors, without gradient, and with an effect on some state."""
Shapes = tuple[tuple[torch.Size, torch.dtype, tuple[int, ...]], ...]


class Repeated:
    """Does work, and once the same shapes have come a few times, does it from a recording.

    Twice, on new content each time, the recording is held against the work itself: results and state must agree. What
    goes wrong until then undoes itself: the state is put back, the work is done as it stands, and stays so. Other
    shapes than those that were recorded are always worked on as they stand.

    Args:
        state: lists all tensors that the work changes, always in the same order. warn: takes why it is not recorded.
    """

    def __init__(self, recorder: Recorder, state: Callable[[], list[Tensor]], warn: Callable[[str], None]) -> None:
        self._recorder: Recorder | None = recorder
        self._state = state
        self._warn = warn
        self._met: Counter[Shapes] = Counter()
        self._recording: _Recording | None = None
        self._checks = 0

    @property
    def recorded(self) -> bool:
        """Whether there is a recording that has passed its checks."""
        return self._recording is not None and self._checks == CHECKS

    def __call__(
        self, work: Work, inputs: Sequence[Tensor], prepare: Callable[[], None] = lambda: None
    ) -> Sequence[Tensor]:
        """Do the work, and return tensors that stay as they are.

        Args:
            work: does the same at each call but for the content of ``inputs`` and of the state.
            prepare: is called before the work each time, and never recorded.
        """
        recorder, shapes = self._recorder, _shapes(inputs)
        if recorder is None or (self._recording is not None and self._recording.shapes != shapes):
            prepare()
            return work(inputs)
        self._met[shapes] += 1
        if self._recording is None and self._met[shapes] <= WARM_UP:
            prepare()
            return recorder.aside(lambda: work(inputs))
        if not self.recorded:
            return self._checked(recorder, work, inputs, prepare)
        prepare()
        return self._again(inputs)

    def forget(self) -> None:
        """Drop the recording: the work does something else from now on, and may be recorded anew."""
        self._recording, self._checks = None, 0

    def _again(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        assert self._recording is not None, "nothing is recorded"
        return self._recording.replay(inputs)

    def _checked(
        self, recorder: Recorder, work: Work, inputs: Sequence[Tensor], prepare: Callable[[], None]
    ) -> Sequence[Tensor]:
        before = _copies(self._state())
        try:
            prepare()
            with recorder.strict():
                expected = _copies(recorder.aside(lambda: work(inputs)))
            after = _copies(self._state())
            self._put(before)
            prepare()
            if self._recording is None:
                self._recording = _Recording(recorder, work, inputs)
            seen = self._again(inputs)
            agree = _close_results(seen, expected) and _close_changes(self._state(), after, before)
        except CompressorError:
            raise
        except Exception as cause:  # noqa: BLE001  # a driver's, a library's or a stranger's; the work itself will tell
            self._put(before)
            self._give_up(f"{type(cause).__name__}: {str(cause).strip().splitlines()[0][:160] if str(cause) else ''}")
            prepare()
            return work(inputs)
        if not agree:
            self._put(after)
            self._give_up("a recorded step came out otherwise")
            return expected
        self._checks += 1
        return seen

    def _put(self, values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for tensor, value in zip(self._state(), values, strict=True):
                tensor.copy_(value)

    def _give_up(self, reason: str) -> None:
        self._recorder = None
        self.forget()
        self._warn(reason)


class _Recording:
    """Work as it was recorded, with the memory that it reads its inputs from."""

    def __init__(self, recorder: Recorder, work: Work, inputs: Sequence[Tensor]) -> None:
        self.shapes = _shapes(inputs)
        self._inputs = [tensor.detach().clone() for tensor in inputs]
        self._places: dict[torch.dtype, list[int]] = defaultdict(list)
        for place, tensor in enumerate(inputs):
            self._places[tensor.dtype].append(place)
        self._work = recorder.record(lambda: work(self._inputs))

    def replay(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Do the work on other content."""
        for places in self._places.values():  # tensors of one type are copied at once
            torch._foreach_copy_([self._inputs[place] for place in places], [inputs[place] for place in places])
        return _copies(self._work())


def _shapes(tensors: Sequence[Tensor]) -> Shapes:
    return tuple((tensor.shape, tensor.dtype, tensor.stride()) for tensor in tensors)


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _close_results(seen: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Compare results, each by its largest number; NaN agrees with NaN, as a lost run is not this one's business."""
    return len(seen) == len(expected) and all(
        torch.allclose(one, other, rtol=0, atol=_OF_A_RESULT * _largest(other), equal_nan=True)
        for one, other in zip(seen, expected, strict=True)
    )


def _largest(tensor: Tensor) -> float:
    return (
        float(torch.nan_to_num(tensor.detach().double(), posinf=0.0, neginf=0.0).abs().max()) if tensor.numel() else 0.0
    )


def _close_changes(state: Sequence[Tensor], expected: Sequence[Tensor], before: Sequence[Tensor]) -> bool:
    """Compare how far a state went, tensor by tensor and by length.

    A tensor's error may be a fifth of its own way, for sums on a device come in any order, or a thousandth of all ways
    together: that of a bias before a normalisation is nothing but rounding. A number that stood still where it should
    have moved errs by its whole way.
    """
    if len(state) != len(expected) or len(expected) != len(before):
        return False
    errors, ways = [], []
    for seen, wanted, start in zip(state, expected, before, strict=True):
        same = (seen == wanted) | (seen != seen) & (wanted != wanted)
        errors.append(torch.where(same, 0.0, seen.double() - wanted.double()).norm())
        ways.append(torch.nan_to_num(wanted.double() - start.double()).norm())
    if not errors:
        return True
    error, way = torch.stack(errors), torch.stack(ways)
    return bool((error <= _OF_A_CHANGE * way + _OF_ALL_CHANGES * way.norm()).all())
