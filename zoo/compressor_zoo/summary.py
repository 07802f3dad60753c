"""The table of the zoo's networks that its README shows; ``python -m compressor_zoo.summary`` prints it."""

import sys
from collections.abc import Sequence

import timm
import torch
from torch import Tensor, nn

from compressor_zoo import ARCHITECTURES
from compressor_zoo.architectures.base import ZooNetwork


def count_parameters(model: nn.Module) -> int:
    """Return how many numbers the model learns; BatchNorm's running statistics are none."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, input_size: Sequence[int] = (3, 32, 32)) -> int:
    """Return the multiply-adds of all convolutions and linear layers for one (C, H, W) image, biases left out."""
    macs = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        assert isinstance(module, nn.Conv2d | nn.Linear)
        # Each number that comes out is one dot product as long as a filter.
        macs += output.numel() * module.weight[0].numel()

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    training = model.training
    try:
        reference = next(model.parameters())
        with torch.no_grad():
            model.eval()(torch.zeros(1, *input_size, dtype=reference.dtype, device=reference.device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return macs


def architecture_table() -> str:
    """Return a Markdown table: name, parameters and multiply-adds for 100 classes at 32x32, maps, source."""
    lines = [
        "| Name | Parameters | MACs at 32x32 | Maps: channels @ side, stem first | Vector | Source |",
        "| --- | ---: | ---: | --- | ---: | --- |",
    ]
    return "\n".join(lines + [_row(name) for name in ARCHITECTURES]) + "\n"


def _row(name: str) -> str:
    model = timm.create_model(name)
    assert isinstance(model, ZooNetwork)
    maps = ", ".join(f"{info['num_chs']} @ {32 // int(info['reduction'])}" for info in model.feature_info)
    link = f"[{model.paper}](https://arxiv.org/abs/{model.paper.removeprefix('arXiv:')})"
    counts = f"{count_parameters(model):,} | {count_macs(model):,}"
    return f"| `{name}` | {counts} | {maps} | {model.head_hidden_size} | {link} |"


if __name__ == "__main__":
    sys.stdout.write(architecture_table())
