"""In what order a network's numbers lie in memory: the same values, and a faster pass."""

import torch
from torch import nn


def arrange(net: nn.Module) -> nn.Module:
    """Lay a network's convolutions out channels last, in place; its values stay the same.

    Dense, grouped and depthwise convolutions are all faster so, asked and trained, on CPUs and on accelerators; a
    network that mixes both layouts is slower than in either, so what stands between them should keep the layout.
    """
    if any(isinstance(module, nn.Conv2d) for module in net.modules()):
        net.to(memory_format=torch.channels_last)
    return net


def plainly_arranged(net: nn.Module) -> nn.Module:
    """Lay a network out as files and other programs expect it, in place."""
    net.to(memory_format=torch.contiguous_format)
    return net
