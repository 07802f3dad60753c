"""How a published folder becomes a network again, and the same from within this process."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from compressor import storage
from compressor.errors import CompressorError, InputError
from compressor.models.catalogue import resolve_name
from compressor.models.create import build
from compressor.publishing.facts import Publication
from compressor.publishing.files import WEIGHTS, factory_arguments


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What a reader of the folder needs.

    Args:
        input_size: (C, H, W) in pixels. mean, std: of pixels in [0, 1], one per channel. num_classes: of the logits.
        requires: packages that make the architecture known to timm.
        factory: ``package.module:factory`` of a network that timm does not know; None when timm builds it.
        arguments: of the factory.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    requires: tuple[str, ...] = ()
    factory: str | None = None
    arguments: Mapping[str, Any]


def loading_of(facts: Publication) -> Loading:
    """Return what `read_published` will read from the folder of a publication."""
    return Loading(
        input_size=facts.input_size,
        mean=facts.mean,
        std=facts.std,
        num_classes=facts.num_classes,
        requires=facts.requires,
        factory=facts.factory,
        arguments=factory_arguments(facts.factory, facts.model_args, facts.num_classes),
    )


def load_here(folder: Path, loading: Loading) -> nn.Module:
    """Load a published folder in this process, as timm's ``local-dir:`` or through its factory; in eval mode.

    Raises:
        InputError: It cannot be built, its weights do not fit, or it asks for a package that brings no architecture.
    """
    if loading.factory is None:
        name = resolve_name(f"run:{folder}")
        return build(name, num_classes=None, image_size=None, pretrained=True).module.eval()
    place, _, attribute = loading.factory.partition(":")
    tensors = storage.read_tensors(folder / WEIGHTS)
    try:
        module = getattr(importlib.import_module(place), attribute)(**loading.arguments)
        if not isinstance(module, nn.Module):
            raise InputError(f"{loading.factory} returned {type(module).__name__}, not a torch.nn.Module")
        module.load_state_dict(tensors)
    except CompressorError:
        raise
    except Exception as cause:  # the user's own code may raise anything
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise InputError(f"{loading.factory} does not take the weights in {folder}: {reason}") from cause
    return module.eval()
