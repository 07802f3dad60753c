"""BatchNorm folded into the convolution in front of it: in eval mode the same map, one pass over memory less.

Which pairs may be folded is found by watching passes, not by reading names: a convolution whose output one BatchNorm
takes and nobody else does, neither a function nor somebody who reads the network's maps.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from compressor.models.copies import exchange, sharing_copy
from compressor.models.taps import probing

Pass = Callable[[], Any]
"""Runs a network once, as it will be run, and returns, in any nesting, all tensors that somebody may read."""

# Exactly these: a subclass may do something else with its weights (standardise them, say).
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv2dSame)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, BatchNormAct2d)
# What asks a tensor for its kind and not for its numbers.
_HARMLESS = (Tensor.dim, Tensor.size, *(getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device")))


def has_pairs(net: nn.Module) -> bool:
    """Say whether there are convolutions and norms of the right kinds at all; what leads where is not looked at."""
    modules = list(net.modules())
    return any(map(_is_convolution, modules)) and any(map(_is_norm, modules))


def foldable(net: nn.Module, passes: Sequence[Pass]) -> dict[str, str]:
    """Find the BatchNorms that may be folded, by the names of modules: convolution to norm.

    Args:
        net: in any mode, which is put back. passes: all ways in which the network will be asked; in each of them a
            pair must qualify.
    """
    names = {module: name for name, module in net.named_modules()}
    found: list[dict[str, str]] = []
    for run in passes:
        watched = _Watch()
        with probing(net), watched.over(net):
            answer = run()
        pairs = watched.pairs(answer)
        found.append({names[convolution]: names[norm] for convolution, norm in pairs.items()})
    return {key: norm for key, norm in found[0].items() if all(one.get(key) == norm for one in found)}


def fold(net: nn.Module, pairs: Mapping[str, str]) -> nn.Module:
    """Copy a network with these norms folded into their convolutions; whatever else has numbers shares them.

    Args:
        net: in eval mode. pairs: what `foldable` found.

    Returns:
        a network for eval mode without gradient, whose state keys are others.
    """
    copied = sharing_copy(net)
    for convolution, norm in pairs.items():
        layer = copied.get_submodule(norm)
        _fold(copied.get_submodule(convolution), layer)
        exchange(copied, norm, _rest(layer))
    return copied


class _Watch(TorchFunctionMode):
    """Follows the outputs of convolutions through one pass: which norms take them, and who else does."""

    def __init__(self) -> None:
        super().__init__()
        self._turns: Counter[nn.Module] = Counter()
        self._made: dict[int, tuple[nn.Module, Tensor]] = {}  # the tensor is held, so that its id stays its own
        self._taken: dict[nn.Module, nn.Module] = {}
        self._others: set[nn.Module] = set()
        self._norms_running = 0

    def over(self, net: nn.Module) -> ExitStack:
        """Return a context in which the modules of ``net`` are watched."""
        stack = ExitStack()
        for module in list(net.modules()):
            if _is_convolution(module):
                stack.callback(module.register_forward_hook(self._convolved).remove)
            elif _is_norm(module):
                stack.callback(module.register_forward_pre_hook(self._norm_begins).remove)
                stack.callback(module.register_forward_hook(self._norm_ends).remove)
        stack.enter_context(self)
        return stack

    def pairs(self, answer: Any) -> dict[nn.Module, nn.Module]:
        """Return convolution to norm, given what the pass returned."""
        self._note_others(answer)
        return {
            convolution: norm
            for convolution, norm in self._taken.items()
            if self._turns[convolution] == self._turns[norm] == 1 and convolution not in self._others
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note who takes a convolution's output, and do what was asked."""
        if not self._norms_running and func not in _HARMLESS:
            self._note_others((args, kwargs))
        return func(*args, **(kwargs or {}))

    def _note_others(self, values: Any) -> None:
        for value in tree_leaves(values):
            if id(value) in self._made:
                self._others.add(self._made[id(value)][0])

    def _convolved(self, module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self._turns[module] += 1
        self._made[id(output)] = (module, output)

    def _norm_begins(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._turns[module] += 1
        self._norms_running += 1
        made = self._made.get(id(inputs[0])) if inputs else None
        if made is not None:
            self._taken[made[0]] = module

    def _norm_ends(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        self._norms_running -= 1


def _is_convolution(module: nn.Module) -> bool:
    return type(module) in _CONVOLUTIONS and _is_untouched(module)


def _is_norm(module: nn.Module) -> bool:
    return type(module) in _NORMS and _is_untouched(module) and module.running_mean is not None


def _is_untouched(module: nn.Module) -> bool:
    """Say whether nobody watches the module or makes its weights anew in each pass."""
    return not (module._forward_hooks or module._forward_pre_hooks or parametrize.is_parametrized(module))


def _fold(convolution: Any, norm: Any) -> None:
    """Give a convolution new weights, computed in float64, that do the norm's part too."""

    def exact(value: Tensor | None) -> Any:
        return None if value is None else value.detach().cpu().double()

    weight, bias = fuse_conv_bn_weights(
        exact(convolution.weight),
        exact(convolution.bias),
        exact(norm.running_mean),
        exact(norm.running_var),
        norm.eps,
        exact(norm.weight),
        exact(norm.bias),
    )
    like = convolution.weight
    convolution.weight = nn.Parameter(weight.to(like.device, like.dtype), requires_grad=False)
    convolution.bias = nn.Parameter(bias.to(like.device, like.dtype), requires_grad=False)


def _rest(norm: nn.Module) -> nn.Module:
    """Return what a norm does beside normalising: timm's may bring dropout and an activation."""
    if isinstance(norm, BatchNormAct2d):
        return nn.Sequential(OrderedDict(drop=norm.drop, act=norm.act)).eval()
    return nn.Identity().eval()
