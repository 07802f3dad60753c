"""Copies of networks whose numbers are shared, and modules exchanged in them."""

from copy import deepcopy
from itertools import chain

from torch import nn


def sharing_copy(net: nn.Module) -> nn.Module:
    """Copy a network's modules; parameters and buffers are the same tensors."""
    shared = {id(tensor): tensor for tensor in chain(net.parameters(), net.buffers())}
    return deepcopy(net, shared)


def exchange(net: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one of this name, and wherever else that one is used."""
    old = net.get_submodule(name)
    for place in [key for key, one in net.named_modules(remove_duplicate=False) if one is old]:
        net.set_submodule(place, module)
