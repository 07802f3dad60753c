"""How long convolutions take on this machine, summed up and by minimal filtering: measured once and kept."""

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

import torch
from torch import Tensor, nn

from compressor.cache import cache_folder
from compressor.engine.compiling import Compiler
from compressor.errors import InputError
from compressor.models.winograd import WinogradConvolution
from compressor.storage import ensure_folder, read_json, write_json

_SCHEMA = 1
_IMAGES, _ROUNDS = 64, 7


@dataclass(frozen=True, order=True)
class Layer:
    """A 3x3 convolution as far as its time goes: channels in and out, height and width of its maps."""

    inputs: int
    outputs: int
    height: int
    width: int

    @classmethod
    def of(cls, convolution: Any, size: tuple[int, int]) -> Self:
        """Describe a convolution that is given maps of this size."""
        return cls(convolution.in_channels, convolution.out_channels, *size)

    @property
    def multiply_adds(self) -> int:
        """Of one image, when it is summed up."""
        return 9 * self.inputs * self.outputs * self.height * self.width

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the maps."""
        return self.height, self.width

    @property
    def name(self) -> str:
        """``64-64-32-32``."""
        return "-".join(map(str, astuple(self)))


@dataclass(frozen=True)
class Times:
    """Seconds that one layer takes for a batch: as it stands, and by minimal filtering."""

    summed: float
    filtered: float


class ConvolutionTimes:
    """What was measured on this machine, with this torch and so many threads.

    Args:
        path: file in which it is kept. machine: what the times hang on; times of anything else are not looked at.
    """

    def __init__(self, path: Path, machine: dict[str, Any]) -> None:
        self._path = path
        self._machine = machine
        self._times = _read(path, machine)
        self._new = False

    @classmethod
    def of_this_machine(cls) -> Self:
        """Return what is kept in the cache folder for this machine, torch and number of threads."""
        machine = this_machine()
        key = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:12]
        return cls(cache_folder() / "convolutions" / f"{key}.json", machine)

    def __contains__(self, layer: Layer) -> bool:
        return layer.name in self._times

    def gain(self, *layers: Layer) -> float:
        """Return how many times as fast these layers are by minimal filtering, taken together."""
        times = [self._times[layer.name] for layer in layers]
        return sum(one.summed for one in times) / sum(one.filtered for one in times)

    def measure(self, layer: Layer, compiler: Compiler) -> None:
        """Let both ways answer the same images in turn.

        Raises:
            CannotCompile: there is no second way here.
        """
        convolution = nn.Conv2d(layer.inputs, layer.outputs, 3, padding=1, device="meta").to_empty(device="cpu")
        convolution.requires_grad_(False).to(memory_format=torch.channels_last)
        for parameter in convolution.parameters():
            nn.init.ones_(parameter)
        filtered = WinogradConvolution(convolution, layer.size, compiler)
        images = torch.ones(_IMAGES, layer.inputs, *layer.size).to(memory_format=torch.channels_last)
        _seconds(convolution, images), _seconds(filtered, images)
        rounds = [(_seconds(convolution, images), _seconds(filtered, images)) for _ in range(_ROUNDS)]
        self._times[layer.name] = Times(*(median(column) for column in zip(*rounds, strict=True)))
        self._new = True

    def keep(self) -> None:
        """Write what was measured beside what is kept.

        Raises:
            StorageError: it could not be written.
        """
        if not self._new:
            return
        ensure_folder(self._path.parent)
        kept = {name: asdict(times) for name, times in (_read(self._path, self._machine) | self._times).items()}
        write_json(self._path, {"schema": _SCHEMA, "machine": self._machine, "seconds": kept})
        self._new = False


def _seconds(net: Callable[[Tensor], Tensor], images: Tensor) -> float:
    with torch.no_grad():
        began = time.perf_counter()
        net(images)
        return time.perf_counter() - began


def _read(path: Path, machine: dict[str, Any]) -> dict[str, Times]:
    """Read what is kept; anything that is not whole is as good as nothing, as it can be measured again."""
    try:
        kept = read_json(path)
        if kept["schema"] != _SCHEMA or kept["machine"] != machine:
            return {}
        times = {name: Times(float(one["summed"]), float(one["filtered"])) for name, one in kept["seconds"].items()}
    except (InputError, AttributeError, KeyError, TypeError, ValueError):
        return {}
    return {name: one for name, one in times.items() if one.summed > 0 and one.filtered > 0}


def this_machine() -> dict[str, Any]:
    """Return what times and programs hang on: processor, threads, torch."""
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def processor() -> str:
    """Name the processor where the system tells, else its family."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
