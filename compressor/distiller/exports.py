"""What is evaluated and published where the student alone is not the method's product."""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

_ModuleT = TypeVar("_ModuleT", bound=nn.Module)


class ExtendedStudent(nn.Module):
    """A student and parts that stay with it: one network, images to logits, whose parts are counted and told.

    What `Distiller.export` returns for a method that sets `exports_extras`. A subclass writes ``forward``.

    Args:
        student: the student's network, or what of it is used; its parameters are shared, see `shared_copy`.
        extras: the other parts, a few words for each, such as ``the projector``.
        architecture: registered under the entry points ``compressor.architectures``; timm builds the whole again from
            ``model_args``, ``student`` (the student's architecture) and ``student_args``, which the core adds. None
            where nobody has written such a one: then the folder holds tensors without a name.
        model_args: plain values.
    """

    def __init__(
        self,
        student: nn.Module,
        extras: Mapping[str, nn.Module],
        *,
        architecture: str | None = None,
        model_args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.extras = {words: sum(one.numel() for one in part.parameters()) for words, part in extras.items()}
        self.architecture = architecture
        self.model_args = dict(model_args or {})


def shared_copy(module: _ModuleT) -> _ModuleT:
    """Copy a module's structure, not its numbers: parameters and buffers are the original's own tensors.

    The copy may be cut, or put in eval mode, without the original noticing; what trains the one trains the other.
    """
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
