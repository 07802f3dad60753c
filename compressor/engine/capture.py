"""Recording a stretch of device work once, to hand it to the device again and again in one go."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

_ResultT = TypeVar("_ResultT")


class Recorder:
    """The form for devices that record nothing: what was recorded is done again, from the same memory.

    So every device walks the same way, and a CPU shows that the way is right.
    """

    def aside(self, work: Callable[[], _ResultT]) -> _ResultT:
        """Do work where a recording will later be made, so that what it sets up on first use is there."""
        return work()

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Refuse inside, with a RuntimeError, whatever makes the host wait: it cannot be recorded."""
        yield

    def record(self, work: Callable[[], _ResultT]) -> Callable[[], _ResultT]:
        """Return what does ``work`` again, on the same memory; what it returns is overwritten by the next time.

        Raises:
            RuntimeError: the work cannot be recorded; the device is as usable as before.
        """
        return work


class GraphRecorder(Recorder):
    """Records as CUDA graphs: kernels, addresses and Python numbers stay as they were; only memory's content changes.

    Random numbers do not: before a graph runs, the seed and position of the device's generator at that time are given
    to it. Whoever seeds the generator before each step gets the same draws from a recording as without one, and after
    a resumption too.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def aside(self, work: Callable[[], _ResultT]) -> _ResultT:
        """Do work on the stream that records."""
        here = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            done = work()
        here.wait_stream(self._stream)
        return done

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Let torch refuse what makes the host wait."""
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that not every wait is found: the recording finds the others
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def record(self, work: Callable[[], _ResultT]) -> Callable[[], _ResultT]:
        """Record without doing; the graph keeps its memory as long as what is returned lives."""
        graph, here = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        generator = torch.cuda.default_generators[here.device_index]
        spare = generator.clone_state()
        try:
            # Other threads go on meanwhile (data, contrast indices): what they do is not part of the recording.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                kept = work()
        except Exception:
            torch.cuda.set_stream(here)  # a capture that fails may leave its own stream in force
            torch.cuda.synchronize(self._device)
            self._free(generator, spare)
            raise

        def again() -> _ResultT:
            graph.replay()
            return kept

        return again

    def _free(self, generator: torch.Generator, spare: torch.Generator) -> None:
        """Give the device's generator back to ordinary work, where a failed capture holds it."""
        try:
            torch.rand(1, device=self._device)
        except RuntimeError:
            generator.graphsafe_set_state(spare)


def recorder_for(device: torch.device, wish: str, processes: int) -> Recorder | None:
    """Return how steps are recorded, None where they are not.

    Args:
        wish: ``auto`` where it is faster, ``on`` wherever the way can be walked, ``off``.
        processes: with several, gradients travel between them in each step, and nothing is recorded.
    """
    if wish == "off" or processes > 1:
        return None
    if device.type == "cuda":
        return GraphRecorder(device)
    return Recorder() if wish == "on" else None
