"""Networks with stages and tails for the tests of HSAKD and HSSAKD, and answers whose maps lead back to leaves."""

from dataclasses import replace
from functools import cache
from typing import Any

import timm
import torch
from made_up import draw, leaf
from torch import Tensor, nn

from compressor.distiller import ModelOutput, NetworkSpec, StageSpec
from compressor.errors import UnsupportedPair
from compressor.models.specs import network_spec
from compressor.models.taps import TappedModel, Wanted

CLASSES = 3
SIDE = 8
MAPS = (4, 6, 8)  # channels, the stem's first


class Tail(nn.Module):
    """One linear layer behind pooling."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = 5
        self.linear = nn.Linear(channels, self.width)

    def forward(self, maps: Tensor) -> Tensor:
        return self.linear(maps.mean((2, 3)))


def network(channels: tuple[int, ...] = MAPS, *, name: str = "net") -> NetworkSpec:
    return NetworkSpec(
        name=name,
        stages=tuple(
            StageSpec(name=f"stage{number}", channels=width, height=SIDE >> number, width=SIDE >> number)
            for number, width in enumerate(channels)
        ),
        preacts=False,
        embedding_width=0,
        num_classes=CLASSES,
        tail_maker=lambda stage: Tail(channels[stage]),
    )


def without_tails() -> NetworkSpec:
    def refuse(stage: int) -> nn.Module:
        raise UnsupportedPair(f"smooth cannot have branches behind stage {stage}")

    return replace(network(name="smooth"), tail_maker=refuse)


def answer(rows: int, *, seed: int, channels: tuple[int, ...] = MAPS, owner: str = "student") -> ModelOutput:
    stages = tuple(
        leaf(rows, width, SIDE >> number, SIDE >> number, seed=seed + number) for number, width in enumerate(channels)
    )
    return ModelOutput(logits=leaf(rows, CLASSES, seed=seed + 50), stages=stages, owner=owner)


@cache
def real(name: str) -> tuple[TappedModel, NetworkSpec]:
    """A network of the zoo or timm's with taps, and what a method is told of it."""
    import compressor_zoo

    assert compressor_zoo.ARCHITECTURES
    torch.manual_seed(0)
    tapped = TappedModel(timm.create_model(name, num_classes=CLASSES), owner="network")
    return tapped, network_spec(tapped, name, (3, 16, 16), wanted=Wanted(stages=True, tails=True))


def looked_at(tapped: TappedModel, images: int = 2) -> ModelOutput:
    pixels = draw(4 * images, 3, 16, 16).float()
    return tapped(pixels, Wanted(stages=True))


def gradients(module: Any) -> list[bool]:
    return [parameter.grad is not None and bool(parameter.grad.any()) for parameter in module.parameters()]
