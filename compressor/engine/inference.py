"""The frozen teacher as loops ask it: a form of the network that answers the same and faster.

Its BatchNorms are folded into the convolutions in front of them, it is laid out for its device, and where the process
gives freed memory back it takes a large batch in slices. The network itself, its weights and its hash stay untouched.
"""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from compressor.distiller import ModelOutput
from compressor.engine.layout import arrange
from compressor.engine.normalise import Normalisation
from compressor.engine.runtime import Runtime
from compressor.errors import UnsupportedPair
from compressor.events import Listener, Warned, silent
from compressor.memory import keeps_freed_memory
from compressor.models.folding import fold, foldable, has_pairs
from compressor.models.taps import TappedModel, Wanted

ROWS = 64
"""Images of a slice: what a pass of a small network needs then fits the caches and blocks that are there already."""

_TOLERANCE = 1e-4  # of the largest value of a map, in float32
_IMAGES = 2


class InferenceForm(TappedModel):
    """A frozen network that is asked through another form of itself.

    ``net`` is the network as it was given: its weights are the ones that are counted, hashed and kept. The form stands
    beside it, not in it: its numbers are the network's, partly computed into each other.

    Args:
        net: in eval mode, frozen. form: the same function, in eval mode.
        rows: images of a slice at most; None asks for a batch at once. Images are independent in eval mode.
    """

    def __init__(self, net: nn.Module, form: nn.Module, *, rows: int | None = None) -> None:
        super().__init__(net, owner="teacher")
        self._form = (TappedModel(form, owner="teacher").eval(),)  # in a tuple: no part of this module's state
        self.rows = rows

    @property
    def form(self) -> nn.Module:
        """The network that answers, in the place of ``net``."""
        return self._form[0].net

    def forward(self, images: Tensor, wanted: Wanted) -> ModelOutput:
        """Answer as the network does, within float tolerance; arguments and errors as `TappedModel`."""
        [form] = self._form
        if self.rows is None or len(images) <= self.rows:
            answer: ModelOutput = form(images, wanted)
            return answer
        slices = images.tensor_split(math.ceil(len(images) / self.rows))
        return ModelOutput.concatenate([form(part, wanted) for part in slices])


def inference_form(
    net: nn.Module,
    normalisation: Normalisation,
    image_size: tuple[int, int, int],
    runtime: Runtime,
    listener: Listener = silent,
) -> TappedModel:
    """Make the form in which a run's loops ask a frozen network; with ``runtime.plain`` that is the network itself.

    It follows from the network, the runtime and the machine alone, so that a run and its continuation, a lane alone and
    in company get the same bits.

    Args:
        net: in eval mode, on its device; its memory is laid out afresh, its values stay.
        image_size: (C, H, W). listener: is told where the network could not be folded.
    """
    if runtime.plain:
        return TappedModel(net, owner="teacher").eval()
    arrange(net)
    form = arrange(_folded(net, noise(normalisation, image_size), listener))
    sliced = runtime.device.type == "cpu" and not keeps_freed_memory()
    return InferenceForm(net, form, rows=ROWS if sliced else None).eval()


def _folded(net: nn.Module, images: Tensor, listener: Listener) -> nn.Module:
    """Fold the norms of a network that was seen to answer the same afterwards; any other is returned as it is."""
    if not has_pairs(net):
        return net
    try:
        pairs, change = _tried(_on_cpu(net), images)
        if change is None:
            return fold(net, pairs) if pairs else net
    except Exception as cause:  # noqa: BLE001  # a stranger's network may not bear copying; it still works as it is
        change = f"raises {type(cause).__name__}: {cause}"
    listener(
        Warned(
            lane="teacher",
            message=f"BatchNorm is not folded into the teacher's convolutions, as it then {change}; only speed is lost",
        )
    )
    return net


def _tried(net: nn.Module, images: Tensor) -> tuple[Mapping[str, str], str | None]:
    """Return what may be folded, and in words what that changed too much, in float32 on the CPU."""
    plain = TappedModel(net, owner="teacher").eval()
    everything = _servable(plain, images)
    asked = [Wanted(), everything]
    pairs = foldable(net, [partial(_answer, plain, images, one) for one in asked])
    if not pairs:
        return pairs, None
    form = TappedModel(fold(net, pairs), owner="teacher").eval()
    other = differences(plain, form, images, asked)
    return pairs, f"gives other {' and '.join(other)}" if other else None


def differences(one: TappedModel, other: TappedModel, images: Tensor, asked: Sequence[Wanted] = ()) -> list[str]:
    """Name the parts of an answer in which two forms of a frozen network differ by more than float tolerance.

    Args:
        images: (B, C, H, W), normalised. asked: all ways in which they are asked, one after the other; by default for
            the logits, and for all that the first one shows.
    """
    for wanted in asked or (Wanted(), _servable(one, images)):
        before, after = (_answer(tapped, images, wanted) for tapped in (one, other))
        differing = [name for name, value in before.items() if not _close(value, after.get(name))]
        if differing:
            return differing
    return []


def _servable(tapped: TappedModel, images: Tensor) -> Wanted:
    """Find out all that a network shows."""
    served = Wanted()
    for part in (Wanted(stages=True), Wanted(preacts=True), Wanted(embedding=True)):
        try:
            _answer(tapped, images, served | part)
        except (UnsupportedPair, RuntimeError, ValueError, AssertionError):
            continue  # nobody can have been promised what it does not show
        served |= part
    return served


def _answer(tapped: TappedModel, images: Tensor, wanted: Wanted) -> dict[str, Tensor]:
    with torch.no_grad():
        output = tapped(images, wanted)
    named = {"logits": output.logits}
    named |= {f"stage {number}": value for number, value in enumerate(output.stages if wanted.stages else ())}
    named |= {f"preact {number}": value for number, value in enumerate(output.preacts if wanted.preacts else ())}
    return named | ({"embedding": output.embedding} if wanted.embedding else {})


def _close(value: Tensor, other: Tensor | None) -> bool:
    if other is None or value.shape != other.shape:
        return False
    return bool((value - other).abs().max() <= _TOLERANCE * value.abs().max())


def _on_cpu(net: nn.Module) -> nn.Module:
    """Return a network that is on the CPU as it is, and of any other a copy: accelerators round convolutions more."""
    there = {tensor.device.type for tensor in net.state_dict().values()}
    return net if there <= {"cpu"} else deepcopy(net).cpu()


def noise(normalisation: Normalisation, image_size: tuple[int, int, int]) -> Tensor:
    """Draw the same few images (B, C, H, W), normalised, for every run."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (_IMAGES, *image_size), generator=draw, dtype=torch.uint8)
    return replace(normalisation, identity=False)(pixels)
