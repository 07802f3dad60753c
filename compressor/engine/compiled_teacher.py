"""The frozen teacher's convolutions compiled for the CPU, those that were measured to be faster so on this machine."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from compressor.config.settings import RunConfig
from compressor.engine.compiling import UNTRIED, CannotCompile, Compiler
from compressor.engine.convolution_times import ConvolutionTimes, Layer, this_machine
from compressor.engine.inference import InferenceForm, differences, noise
from compressor.engine.session import Session, Teacher
from compressor.events import Fact, Warned
from compressor.models.copies import exchange, sharing_copy
from compressor.models.create import multiply_adds
from compressor.models.taps import TappedModel
from compressor.models.winograd import WinogradConvolution, is_suitable

LEAST_MULTIPLY_ADDS = 10**14
"""Of the teacher over a whole run, from which on compiling is worth its minute: a quarter of an hour of two cores."""

_LEAST_GAIN = 1.1
_ROWS = 128  # of a batch at once: these convolutions take a few images at a time anyway, and maps stay small
_LEAST_SHARE = 0.05  # of such layers' multiply-adds; below, a kind of layer is not worth compiling for


def compiled(teacher: Teacher, config: RunConfig, session: Session, *, looking: bool = False) -> Teacher:
    """Return the teacher in a form that was found faster, or as it is; the answers are the same within tolerance.

    What was measured is kept for the machine, so that runs and their continuations have the same form.

    Args:
        config: of a run that it teaches; with ``runtime.compile_teacher`` ``auto`` only long ones are worth it.
        looking: take what is kept; try, compile and write nothing.

    Raises:
        Stopped: somebody asked meanwhile. StorageError: what was measured could not be kept.
    """
    wish = session.runtime.compiles
    long = wish == "auto" and _multiply_adds(teacher, config, session) >= LEAST_MULTIPLY_ADDS
    if not (long or wish == "on") or not isinstance(teacher.tapped, InferenceForm):
        return teacher
    images = noise(teacher.normalisation, session.data.image_size)
    layers = _large_part(layers_of(teacher.tapped.form, images))
    if not layers:
        return teacher
    try:
        tapped = _compiled(teacher.tapped, images, layers, session, Compiler(this_machine(), looking=looking))
    except CannotCompile as cause:
        if session.stop.heard:  # the signal may have reached the compiler first
            raise session.stop.stopped(0) from cause
        text = f"the teacher's convolutions are not compiled, only speed is lost ({cause})"
        session.listener(Warned(lane="teacher", message=text))
        return teacher
    return replace(teacher, tapped=tapped)


def layers_of(form: nn.Module, images: Tensor) -> dict[str, Layer]:
    """Find the convolutions that may be exchanged, by name, with the size of the maps that each is given."""
    met: dict[str, set[tuple[int, int]]] = {}
    hooks = []
    for name, module in form.named_modules():
        if is_suitable(module):
            met[name] = set()

            def note(_: nn.Module, given: tuple[Tensor, ...], sizes: set[tuple[int, int]] = met[name]) -> None:
                sizes.add((given[0].shape[-2], given[0].shape[-1]))

            hooks.append(module.register_forward_pre_hook(note))
    try:
        with torch.no_grad():
            form(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: Layer.of(form.get_submodule(name), *sizes) for name, sizes in met.items() if len(sizes) == 1}


def _large_part(layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """Leave out kinds of layers that take next to nothing of a pass."""
    shares: Counter[Layer] = Counter()
    for layer in layers.values():
        shares[layer] += layer.multiply_adds
    return {name: layer for name, layer in layers.items() if shares[layer] >= _LEAST_SHARE * shares.total()}


def _compiled(
    tapped: InferenceForm, images: Tensor, layers: Mapping[str, Layer], session: Session, compiler: Compiler
) -> TappedModel:
    times = ConvolutionTimes.of_this_machine()
    unknown = {layer for layer in layers.values() if layer not in times}
    if unknown and compiler.looking:
        raise CannotCompile(UNTRIED)
    if unknown:
        text = f"trying compiled convolutions for {len(unknown)} kinds of layers, once for this machine"
        session.listener(Fact(lane="teacher", title="Teacher", text=text))
    for layer in sorted(unknown):
        times.measure(layer, compiler)
        times.keep()
        if session.stop.heard:
            raise session.stop.stopped(0)
    chosen = {name: layer for name, layer in layers.items() if times.gain(layer) >= _LEAST_GAIN}
    if not chosen:
        session.listener(Fact(lane="teacher", title="Teacher", text="no convolution is faster compiled: as it stands"))
        return tapped
    form = sharing_copy(tapped.form)
    for name, layer in chosen.items():
        convolution = form.get_submodule(name)
        assert isinstance(convolution, nn.Conv2d)
        exchange(form, name, WinogradConvolution(convolution, layer.size, compiler))
    return _checked(tapped, form, images, session, f"{len(chosen)} of {len(layers)}", times.gain(*chosen.values()))


def _checked(
    tapped: InferenceForm, form: nn.Module, images: Tensor, session: Session, count: str, gain: float
) -> TappedModel:
    """Return the new form once it was seen to answer as the old one."""
    new = InferenceForm(tapped.net, form, rows=tapped.rows or _ROWS).eval()
    other = differences(tapped, new, images)
    if other:
        text = f"compiled convolutions give other {' and '.join(other)} and are left out; only speed is lost"
        session.listener(Warned(lane="teacher", message=text))
        return tapped
    text = f"{count} 3x3 convolutions compiled (minimal filtering), measured {gain:.1f} times as fast"
    session.listener(Fact(lane="teacher", title="Teacher", text=text))
    return new


def _multiply_adds(teacher: Teacher, config: RunConfig, session: Session) -> int:
    """Return what the teacher would compute for one view of each image in each epoch."""
    seen = config.training.epochs * len(session.data.train)
    return seen * multiply_adds(teacher.tapped.net, session.data.image_size)
