"""What a network is, found out by asking it: stages, pre-activations, embedding width, classes."""

import torch
from torch import nn

from compressor.distiller import NetworkSpec, StageSpec
from compressor.errors import InputError
from compressor.models.taps import TappedModel, Wanted, probing


def network_spec(tapped: TappedModel, name: str, image_size: tuple[int, int, int], *, wanted: Wanted) -> NetworkSpec:
    """Ask a network, with one image of zeros in eval mode, for the shapes a method may build on.

    Args:
        image_size: (C, H, W) of the run.
        wanted: what the method declared; nothing else is looked for.

    Raises:
        InputError: the network cannot take images of that size. UnsupportedPair: it does not show what is wanted.
    """
    images = torch.zeros(2, *image_size, device=_device(tapped))
    has_preacts = wanted.preacts and tapped.has_preacts(images)
    with probing(tapped):
        try:
            output = tapped(images, Wanted(stages=wanted.stages, preacts=has_preacts, embedding=wanted.embedding))
        except (RuntimeError, ValueError, AssertionError) as cause:
            size = "x".join(map(str, image_size))
            first = str(cause).strip().splitlines()[0][:160]
            raise InputError(f"{name} cannot take images of {size}: {first}", hint="--img-size N") from cause
    stages = output.stages if wanted.stages else ()
    return NetworkSpec(
        name=name,
        stages=tuple(
            StageSpec(name=f"stage{number}", channels=stage.shape[1], height=stage.shape[2], width=stage.shape[3])
            for number, stage in enumerate(stages)
        ),
        preacts=has_preacts,
        embedding_width=output.embedding.shape[1] if wanted.embedding else 0,
        num_classes=output.logits.shape[1],
    )


def _device(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
