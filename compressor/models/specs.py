"""What a network is, found out by asking it: stages, pre-activations, embedding, classes; and how to copy its parts."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn

from compressor.distiller import NetworkSpec, StageSpec
from compressor.errors import InputError, UnsupportedPair
from compressor.models.tails import tail_of
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
    with _taking_images(name, image_size):
        has_preacts = wanted.preacts and tapped.has_preacts(images)
        with probing(tapped):
            output = tapped(images, Wanted(stages=wanted.stages, preacts=has_preacts, embedding=wanted.embedding))
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
        pooled_embedding=wanted.stages and wanted.embedding and _is_pooled(tapped, images),
        tail_maker=partial(tail_of, tapped.net, image_size=image_size, name=name) if wanted.tails else None,
        classifier_copier=partial(_copy_classifier, tapped, name) if wanted.classifier else None,
    )


@contextmanager
def _taking_images(name: str, image_size: tuple[int, int, int]) -> Iterator[None]:
    """Turn what a network raises at its first images into a line for the user."""
    try:
        yield
    except (RuntimeError, ValueError, AssertionError) as cause:
        size = "x".join(map(str, image_size))
        first = (str(cause).strip() or type(cause).__name__).splitlines()[0][:160]
        raise InputError(f"{name} cannot take images of {size}: {first}", hint="--img-size N") from cause


def _is_pooled(tapped: TappedModel, images: Tensor) -> bool:
    """Say whether the embedding is the last map's mean over its positions; asked with noise, as zeros hide much."""
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)).to(images.device)
    with probing(tapped):
        output = tapped(noise, Wanted(stages=True, embedding=True))
    means = output.stages[-1].mean((2, 3))
    return means.shape == output.embedding.shape and torch.allclose(means, output.embedding, rtol=1e-3, atol=1e-5)


def _copy_classifier(tapped: TappedModel, name: str) -> nn.Module:
    """Copy the layer that turns embeddings (B, D) into logits, on the CPU, without gradient for its weights.

    Raises:
        UnsupportedPair: that layer does not take vectors.
    """
    found = tapped.classifier()
    if not isinstance(found, nn.Linear):
        raise UnsupportedPair(f"the classifier of {name} is a {type(found).__name__}, not one linear layer")
    return deepcopy(found).cpu().requires_grad_(False)


def _device(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
