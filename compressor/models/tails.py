"""Copies of the layers behind a stage, with random weights: what a branch off a network is made of.

A network with ``make_tail(stage)``, such as the zoo's, makes them itself. In any other the layers are found by one
probing pass, as a chain: each module's only input is the very tensor that the one before it returned.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressor.errors import UnsupportedPair
from compressor.models.taps import TappedModel, Wanted, probing

# Where a module cannot draw a parameter again: what scales of residual branches start from in most networks.
_FIRST_SCALE = 1e-6
_SCALES = ("gamma", "scale")
_TOLERANCE = 1e-3  # between the copied layers' answer and the network's own, of the largest value


class ChainTail(nn.Module):
    """Copied layers in a row, then average pooling: (B, C, H, W) to (B, ``width``), with gradient.

    Args:
        layers: with the weights they were copied with; the tail draws its own. width: D.

    Raises:
        UnsupportedPair: nothing tells how some weight of a layer starts.
    """

    def __init__(self, layers: Sequence[nn.Module], width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.width = width
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew, each layer by its ``reset_parameters``, from torch's global generator."""
        with torch.no_grad():
            for parameter in self.layers.parameters():
                parameter.fill_(torch.nan)  # to see which ones nobody draws
        for module in self.layers.modules():
            draw = getattr(module, "reset_parameters", None)
            if draw is not None:
                draw()
        for key, parameter in self.layers.named_parameters():
            if parameter.isnan().any():
                if not key.rpartition(".")[2].startswith(_SCALES):
                    raise UnsupportedPair(f"nothing tells how the weight {key} of a branch starts")
                nn.init.constant_(parameter, _FIRST_SCALE)

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, D) from the maps (B, C, H, W) of the stage that the tail was made for."""
        final: Tensor = self.layers(maps)
        return final.mean((2, 3))


def tail_of(net: nn.Module, stage: int, image_size: tuple[int, int, int], *, name: str) -> nn.Module:
    """Make a fresh copy of the layers behind a stage, on the CPU; see `NetworkSpec.make_tail`.

    Behind the last stage of a network that does not make its own tails stands: a 1x1 convolution with BatchNorm back to
    the width that enters that stage, and a copy of the stage in which strides are 1 and poolings left out. The weights
    come from each module's ``reset_parameters``, so from torch's global generator; scales of residual branches, which
    have none, start at 1e-6.

    Args:
        net: images (B, C, H, W) to logits (B, K); nothing of it is changed.
        stage: position in its list of maps. image_size: (C, H, W) of the run. name: of the network, for messages.

    Raises:
        UnsupportedPair: it has no such stage, or its layers there cannot be copied.
    """
    maker = getattr(net, "make_tail", None)
    if maker is not None:
        made: nn.Module = maker(stage)
        return made
    seen = _Pass.through(net, image_size)
    if not 0 <= stage < len(seen.maps):
        raise UnsupportedPair(f"{name} has stages 0 to {len(seen.maps) - 1}, not {stage}")
    last = len(seen.maps) - 1
    layers = seen.copied(seen.maps[stage], seen.final, name, stage) if stage < last else _once_more(seen, name)
    return _checked(layers, seen, name, stage)


@dataclass
class _Call:
    """One module's turn in a pass: its only argument, what it returned, and how many turns had begun by its end."""

    module: nn.Module
    given: Any
    answer: Any = None
    end: int = 0


@dataclass(frozen=True)
class _Pass:
    """What happened while a network looked at two images: every module's turn, the maps, the map that is pooled."""

    calls: tuple[_Call, ...]
    maps: tuple[Tensor, ...]
    final: Tensor

    @staticmethod
    def through(net: nn.Module, image_size: tuple[int, int, int]) -> "_Pass":
        device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
        images = torch.randn(2, *image_size, generator=torch.Generator().manual_seed(0)).to(device)
        with probing(net), _recorded(net) as calls:
            maps, final = _maps(net, images)
        return _Pass(tuple(calls), tuple(maps), final)

    def copied(self, start: Tensor, end: Tensor, name: str, stage: int) -> list[nn.Module]:
        """Copy the modules that lead from one tensor of the pass to another, trained weights and all.

        Raises:
            UnsupportedPair: there is no such chain, or its copy answers otherwise.
        """
        begun = max((call.end for call in self.calls if call.answer is start), default=0)
        chain = self._chain(start, end, begun, set())
        if chain is not None:
            copies = [deepcopy(call.module).eval().requires_grad_(True) for call in chain]
            with torch.no_grad():
                answer = nn.Sequential(*copies)(start.clone())  # a layer may write over its input
            if answer.shape == end.shape and (answer - end).abs().max() <= _TOLERANCE * end.abs().max():
                return [copy.cpu().train() for copy in copies]
        raise UnsupportedPair(
            f"{name} cannot have branches: its layers behind stage {stage} are not one chain of modules",
            hint="convolutional networks with stages can: cifar_*, and timm's resnet*, convnext*, efficientnet*",
        )

    def _chain(self, current: Tensor, end: Tensor, begun: int, tried: set[tuple[int, int]]) -> list[_Call] | None:
        """Find turns that hand ``current`` on until it is ``end``; of nested ones the outermost."""
        if current is end:
            return []
        place = (id(current), begun)
        if place in tried:
            return None
        tried.add(place)
        for call in self.calls[begun:]:
            if call.given is current and isinstance(call.answer, Tensor):
                rest = self._chain(call.answer, end, call.end, tried)
                if rest is not None:
                    return [call, *rest]
        return None


@contextmanager
def _recorded(net: nn.Module) -> Iterator[list[_Call]]:
    """Collect the turns of all modules, in the order in which they begin."""
    calls: list[_Call] = []
    running: list[_Call] = []

    def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(_Call(module, args[0] if len(args) == 1 and not kwargs else None))
        running.append(calls[-1])

    def end(module: nn.Module, args: tuple[Any, ...], answer: Any) -> None:
        call = running.pop()
        call.answer, call.end = answer, len(calls)

    with ExitStack() as stack:
        for name, module in net.named_modules():
            if name:
                stack.callback(module.register_forward_pre_hook(begin, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(end).remove)
        yield calls


def _maps(net: Any, images: Tensor) -> tuple[Sequence[Tensor], Tensor]:
    """Return the stage maps and the map that the head takes; the last stage's where the network does not tell it."""
    if hasattr(net, "forward_taps"):
        final, maps, _ = net.forward_taps(images)
    elif hasattr(net, "forward_intermediates"):
        final, maps = net.forward_intermediates(images, output_fmt="NCHW")
    else:
        maps = TappedModel(net, owner="network")(images, Wanted(stages=True)).stages
        final = maps[-1]
    return maps, final


def _once_more(seen: _Pass, name: str) -> list[nn.Module]:
    """Copy the last stage to stand behind itself, and what follows it."""
    last = len(seen.maps) - 1
    if last == 0:
        raise UnsupportedPair(f"{name} shows one map only: there is no stage to stand behind it")
    entering, own = seen.maps[last - 1].shape[1], seen.maps[last].shape[1]
    back = [nn.Conv2d(own, entering, 1, bias=False), nn.BatchNorm2d(entering)] if own != entering else []
    stage = nn.Sequential(*seen.copied(seen.maps[last - 1], seen.maps[last], name, last - 1))
    _keep_size(stage)
    return [*back, stage, *seen.copied(seen.maps[last], seen.final, name, last)]


def _keep_size(module: nn.Module) -> None:
    """Set all strides within a module to 1, and put identities in the place of poolings that reduce."""
    for key, child in module.named_children():
        if getattr(child, "stride", 1) in (1, (1, 1)) or (
            list(child.parameters()) and not isinstance(child, nn.Conv2d)
        ):
            _keep_size(child)
        else:
            setattr(module, key, _unstrided(child) if isinstance(child, nn.Conv2d) else nn.Identity())


def _unstrided(conv: nn.Conv2d) -> nn.Module:
    """Set a convolution's stride to 1, with a border of zeros that keeps the size of its maps."""
    conv.stride = (1, 1)
    rows, columns = (dilation * (side - 1) for dilation, side in zip(conv.dilation, conv.kernel_size, strict=True))
    if rows % 2 == 0 and columns % 2 == 0:
        conv.padding = (rows // 2, columns // 2)
        return conv
    conv.padding = (0, 0)
    border = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return nn.Sequential(nn.ZeroPad2d(border), conv)


def _checked(layers: Sequence[nn.Module], seen: _Pass, name: str, stage: int) -> ChainTail:
    """Make the tail and send zeros of the stage's shape through; raises `UnsupportedPair` where no vectors come out."""
    start, width = seen.maps[stage], seen.final.shape[1]
    try:
        tail = ChainTail(layers, width)
        with probing(tail):
            vectors = tail(torch.zeros(start.shape))
    except (RuntimeError, ValueError, AssertionError, UnsupportedPair) as cause:
        first = str(cause).strip().splitlines()[0][:160]
        raise UnsupportedPair(f"{name} cannot have a branch behind stage {stage}: {first}") from cause
    if vectors.shape != (len(start), width):
        raise UnsupportedPair(f"{name} cannot have a branch behind stage {stage}: it ends in {tuple(vectors.shape)}")
    return tail
