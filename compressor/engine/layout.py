"""In what order a network's numbers lie in memory: the same values, and on most networks a faster pass."""

import torch
from torch import nn


def arrange(net: nn.Module, device: torch.device, *, frozen: bool = False) -> nn.Module:
    """Lay a network's convolutions out channels last where that is faster, in place; its values stay the same.

    For a network that is trained on a CPU that is where all convolutions are dense: grouped and depthwise ones lose
    more in the backward pass than dense ones win (see the performance page). For one that is only asked, and on an
    accelerator, it is everywhere.

    Args:
        frozen: whether there is no backward pass.
    """
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    dense = all(module.groups == 1 for module in convolutions)
    if convolutions and (dense or frozen or device.type == "cuda"):
        net.to(memory_format=torch.channels_last)
    return net


def plainly_arranged(net: nn.Module) -> nn.Module:
    """Lay a network out as files and other programs expect it, in place."""
    net.to(memory_format=torch.contiguous_format)
    return net
