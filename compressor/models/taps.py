"""Taps: any network becomes one that returns logits, stage maps, pre-activations and embedding, without wiring.

Three ways to the stage maps, tried in this order:

1. the network's own ``forward_taps(x, *, preacts) -> (final map, stage maps, pre-activation maps)``, which the zoo's
   and plugins' networks offer;
2. timm's ``forward_intermediates``;
3. hooks: the last module output at each resolution, found by one probing pass.

The embedding is whatever enters the classifier. Hooks are set for one pass and taken off again: they never travel
with the network.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressor.distiller import ModelOutput
from compressor.errors import UnsupportedPair


@dataclass(frozen=True)
class Wanted:
    """Which parts of a `ModelOutput` a pass must serve beside the logits, and what a spec must be able to copy.

    Args:
        tails: `NetworkSpec.make_tail`; a pass is the same with and without. classifier: `NetworkSpec.copy_classifier`,
            likewise.
    """

    stages: bool = False
    preacts: bool = False
    embedding: bool = False
    tails: bool = False
    classifier: bool = False

    def __or__(self, other: "Wanted") -> "Wanted":
        return Wanted(
            stages=self.stages or other.stages,
            preacts=self.preacts or other.preacts,
            embedding=self.embedding or other.embedding,
            tails=self.tails or other.tails,
            classifier=self.classifier or other.classifier,
        )


class TappedModel(nn.Module):
    """A network that answers with a `ModelOutput`.

    Args:
        net: images (B, C, H, W) to logits (B, K). It is held, not copied, and its state keys are under ``net.``.
        owner: ``teacher`` or ``student``, for messages.
    """

    def __init__(self, net: nn.Module, *, owner: str) -> None:
        super().__init__()
        self.net = net
        self.owner = owner
        self._stage_modules: tuple[str, ...] | None = None
        self._preact_modules: tuple[str, ...] | None = None

    @property
    def form(self) -> nn.Module:
        """The network that answers: ``net``, or what stands for it."""
        return self.net

    def forward(self, images: Tensor, wanted: Wanted) -> ModelOutput:
        """Return what is wanted of the answer to ``images`` (B, C, H, W), already normalised.

        Raises:
            UnsupportedPair: the network does not show what is wanted.
        """
        with ExitStack() as stack:
            embedding = stack.enter_context(_captured_input(self.classifier())) if wanted.embedding else []
            preacts: list[Tensor] = []
            if not (wanted.stages or wanted.preacts):
                logits, stages = self.net(images), []
            elif hasattr(self.net, "forward_taps"):
                final, stages, preacts = self._network.forward_taps(images, preacts=wanted.preacts)
                logits = self._head(final)
            else:
                logits, stages, preacts = self._probed_forward(images, wanted, stack)
        return ModelOutput(
            logits=_first(logits),
            stages=tuple(stages) if wanted.stages else None,
            preacts=tuple(preacts) if wanted.preacts else None,
            embedding=embedding[-1].flatten(1) if wanted.embedding else None,
            owner=self.owner,
        )

    def has_preacts(self, images: Tensor) -> bool:
        """Say whether every stage also shows its map before the last activation; runs one pass in eval mode."""
        if hasattr(self.net, "forward_taps"):
            return True
        stages = self._stage_maps(images)
        return bool(stages) and len(self._find_preacts(images)) == len(stages)

    def classifier(self) -> nn.Module:
        """Return the layer that makes the logits: what the network says it is, or its last linear one.

        Raises:
            UnsupportedPair: there is none.
        """
        getter = getattr(self.net, "get_classifier", None)
        found = getter() if getter is not None else None
        if isinstance(found, (tuple, list, nn.ModuleList)):
            found = found[0]
        if isinstance(found, nn.Module) and not isinstance(found, nn.Identity):
            return found
        linear = [module for module in self.net.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise UnsupportedPair(f"the {self.owner} has no linear classifier whose input could be its embedding")
        return linear[-1]

    @property
    def _network(self) -> Any:
        """The network with the methods that timm's and the zoo's have beyond `nn.Module`."""
        return self.net

    def _head(self, final: Tensor) -> Any:
        return self._network.forward_head(final)

    def _probed_forward(
        self, images: Tensor, wanted: Wanted, stack: ExitStack
    ) -> tuple[Any, list[Tensor], list[Tensor]]:
        names = self._find_preacts(images) if wanted.preacts else ()
        taken = [stack.enter_context(_captured_input(self.net.get_submodule(name), clone=True)) for name in names]
        if hasattr(self.net, "forward_intermediates"):
            final, stages = self._network.forward_intermediates(images, output_fmt="NCHW")
            logits = self._head(final)
        else:
            modules = self._find_stages(images)
            maps = [stack.enter_context(_captured_output(self.net.get_submodule(name))) for name in modules]
            logits = self.net(images)
            stages = [values[-1] for values in maps]
        if wanted.preacts and len(names) != len(stages):
            raise UnsupportedPair(f"the {self.owner} does not show its stages before their activation")
        return logits, list(stages), [values[-1] for values in taken]

    def _stage_maps(self, images: Tensor) -> list[Tensor]:
        with probing(self.net):
            if hasattr(self.net, "forward_intermediates"):
                return list(self._network.forward_intermediates(images, output_fmt="NCHW", intermediates_only=True))
            with ExitStack() as stack:
                names = self._find_stages(images)
                maps = [stack.enter_context(_captured_output(self.net.get_submodule(name))) for name in names]
                self.net(images)
            return [values[-1] for values in maps]

    def _find_stages(self, images: Tensor) -> tuple[str, ...]:
        """Name the last module to answer at each resolution, in the order of the pass."""
        if self._stage_modules is None:
            seen: list[tuple[str, tuple[int, int]]] = []
            with probing(self.net), ExitStack() as stack:
                for name, module in self.net.named_modules():
                    if name:
                        stack.enter_context(_on_output(module, _map_recorder(seen, name)))
                self.net(images[:1])
            last = {size: name for name, size in seen if size != (1, 1)}
            self._stage_modules = tuple(last.values())
        return self._stage_modules

    def _find_preacts(self, images: Tensor) -> tuple[str, ...]:
        """Name, for each stage, the activation module whose output is that stage; () unless every stage has one."""
        if self._preact_modules is None:
            answers: list[tuple[str, Tensor]] = []
            with ExitStack() as stack:
                for name, module in self.net.named_modules():
                    if _is_activation(module):
                        stack.enter_context(_on_output(module, _answer_recorder(answers, name)))
                stages = self._stage_maps(images[:1])
            found = [next((name for name, value in reversed(answers) if value is stage), None) for stage in stages]
            self._preact_modules = tuple(name for name in found if name) if all(found) else ()
        return self._preact_modules


def _first(logits: Any) -> Tensor:
    """Networks with several heads answer with a tuple; the first is the class prediction."""
    answer = logits[0] if isinstance(logits, (tuple, list)) else logits
    assert isinstance(answer, Tensor)
    return answer


def _is_activation(module: nn.Module) -> bool:
    return not list(module.children()) and (
        type(module).__module__ == "torch.nn.modules.activation"
        or type(module).__module__.startswith("timm.layers.act")
    )


def _map_recorder(seen: list[tuple[str, tuple[int, int]]], name: str) -> Callable[[Any], None]:
    def record(output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            seen.append((name, (output.shape[-2], output.shape[-1])))

    return record


def _answer_recorder(answers: list[tuple[str, Tensor]], name: str) -> Callable[[Any], None]:
    def record(output: Any) -> None:
        answers.append((name, output))

    return record


@contextmanager
def _on_output(module: nn.Module, record: Callable[[Any], None]) -> Iterator[None]:
    handle = module.register_forward_hook(lambda _module, _inputs, output: record(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _captured_output(module: nn.Module) -> Iterator[list[Tensor]]:
    values: list[Tensor] = []
    with _on_output(module, values.append):
        yield values


@contextmanager
def _captured_input(module: nn.Module, *, clone: bool = False) -> Iterator[list[Tensor]]:
    """Collect what enters a module; cloned where the module may overwrite it in place."""
    values: list[Tensor] = []

    def record(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        values.append(inputs[0].clone() if clone and getattr(_module, "inplace", False) else inputs[0])

    handle = module.register_forward_pre_hook(record)
    try:
        yield values
    finally:
        handle.remove()


@contextmanager
def probing(net: nn.Module) -> Iterator[None]:
    """Look at a network without leaving a trace: eval mode, no gradient, the mode put back."""
    modes = {name: module.training for name, module in net.named_modules()}
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for name, module in net.named_modules():
            module.training = modes[name]
