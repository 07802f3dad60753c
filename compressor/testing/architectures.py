"""Does a network do what the core relies on? Classes, feature maps, embedding, gradients, state."""

import torch
from torch import nn
from torch.nn import functional as F

from compressor.errors import CompressorError
from compressor.testing.faults import Fault, Tell

_CLASSES = 7


def check_architecture(name: str, *, image_size: int = 32) -> list[Fault]:
    """Build a network by name and hold it to what methods and runs need; nothing is downloaded or trained.

    Args:
        name: as on the command line. image_size: pixels a side of the images it is tried with.

    Returns:
        every fault; empty when there is none.

    Raises:
        UsageError: the name is unknown or ambiguous.
    """
    from compressor.models.catalogue import resolve_name
    from compressor.models.create import create_model

    resolve_name(name)
    found: list[Fault] = []

    def tell(message: str, fix: str) -> None:
        found.append(Fault(name, None, message, fix))

    try:
        net, twin = (create_model(name, num_classes=_CLASSES, image_size=image_size) for _ in range(2))
    except CompressorError as cause:
        tell(cause.message, cause.hint or "make the factory take num_classes=")
        return found
    images = torch.rand(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    try:
        _look_at_answer(net, images, tell)
        _look_at_state(net, twin, images, tell)
        _look_at_gradients(net, images, tell)
    except Exception as cause:  # noqa: BLE001  # a stranger's network may raise anything
        tell(f"it raises {type(cause).__name__}: {cause}", f"make it take images (B, 3, {image_size}, {image_size})")
    return found


def _look_at_answer(net: nn.Module, images: torch.Tensor, tell: Tell) -> None:
    from compressor.models.taps import TappedModel, Wanted

    with torch.no_grad():
        logits = net.eval()(images)
        answer = TappedModel(net, owner="network")(images, Wanted(stages=True, embedding=True))
    if not isinstance(logits, torch.Tensor) or logits.shape != (len(images), _CLASSES):
        tell(f"it answers {getattr(logits, 'shape', type(logits))} to {_CLASSES} classes", "honour num_classes=")
        return
    if not torch.isfinite(logits).all():
        tell("its logits are not finite", "look at its initial weights")
    if not torch.allclose(logits, answer.logits, rtol=1e-4, atol=1e-5):
        tell("it answers otherwise when its feature maps are read", "let forward_head(final map) give forward's logits")
    if any(stage.dim() != 4 or len(stage) != len(images) for stage in answer.stages):
        tell("its stages are not (B, C, H, W) maps", "return such maps from forward_taps or forward_intermediates")
    if answer.embedding.dim() != 2:
        tell("its embedding is not (B, D)", "let get_classifier() return the last linear layer")


def _look_at_state(net: nn.Module, twin: nn.Module, images: torch.Tensor, tell: Tell) -> None:
    twin.load_state_dict(net.state_dict())
    with torch.no_grad():
        if not torch.equal(net.eval()(images), twin.eval()(images)):
            tell("two builds with the same state answer differently", "keep all that matters in the state dict")


def _look_at_gradients(net: nn.Module, images: torch.Tensor, tell: Tell) -> None:
    loss = F.cross_entropy(net.train()(images), torch.arange(len(images)))
    torch.autograd.backward(loss)
    idle = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    if idle:
        tell(f"no gradient reaches {', '.join(idle[:3])}", "leave out what the answer does not use")
