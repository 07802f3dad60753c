"""Does a method keep the contract? Its class, settings, phases, terms, gradients and state, on made-up networks."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressor.distiller import Distiller, Needs, Phase, Terms
from compressor.errors import CompressorError, UnsupportedPair
from compressor.registry import METHODS, entry_points, outline_faults
from compressor.testing.faults import Fault, Tell
from compressor.testing.scenes import CASES, IMAGES, Case, Scene, make_scene

AnyDistiller = Distiller[Any]
_NAME = re.compile(r"[a-z0-9_]+")


class _Broken(Exception):
    """A fault was told after which this pair cannot be looked at any further."""


def check_distiller(method: type[AnyDistiller], *, config: Any = None) -> list[Fault]:
    """Hold a method to the contract, on made-up pairs of networks with 2 and 10 classes.

    Looked at: name and entry point, settings, declared needs, phases, terms (0-d, finite), gradients (to the student
    and to what a phase trains, never to the teacher), tensors that were not declared or are overwritten, several
    micro-batches, the order of a batch, state that is saved and loaded, and what is published.

    Args:
        method: the class. config: its settings; None for the defaults.

    Returns:
        every fault, in the order found; empty when the method keeps the contract.
    """
    name, package = _registered(method)
    found: dict[str, Fault] = {}

    def tell(message: str, fix: str) -> None:
        found.setdefault(message, Fault(name, package, message, fix))

    outline = outline_faults(method, name)
    for fault in outline:
        tell(fault, "see compressor.distiller.Distiller")
    if not (isinstance(method, type) and issubclass(method, Distiller)):
        return list(found.values())
    if not _NAME.fullmatch(name):
        tell(f"its name is {name!r}", "use lower-case letters, digits and _")
    settings = _settings(method, tell) if config is None else config
    if outline or settings is None:
        return list(found.values())
    accepted = [_accepts(method, settings, case, tell) for case in CASES]
    if not any(accepted) and not found:
        tell("it refuses every pair of networks", "let `check` refuse only what it cannot work on")
    return list(found.values())


def _registered(method: type[AnyDistiller]) -> tuple[str, str | None]:
    """Return the name a class is registered under and its distribution; its own name where it is not registered."""
    value = f"{getattr(method, '__module__', '')}:{getattr(method, '__qualname__', '')}"
    for point in entry_points(METHODS):
        if point.value == value:
            return point.name, None if point.dist is None else f"{point.dist.name} {point.dist.version}"
    return str(getattr(method, "name", None)), None


def _settings(method: type[AnyDistiller], tell: Tell) -> Any:
    """Make the default settings; None, and a fault, where there are none."""
    config: Any = getattr(method, "Config", None)
    if not is_dataclass(config):
        return None
    made: Any = config
    bare = [item.name for item in fields(made) if item.default is MISSING and item.default_factory is MISSING]
    if bare:
        tell(f"its settings {', '.join(bare)} have no default", "give every field of Config one")
        return None
    try:
        return made()
    except Exception as cause:  # noqa: BLE001  # a stranger's code may raise anything
        tell(f"its default settings are refused: {_in_words(cause)}", "choose defaults that __post_init__ allows")
        return None


def _accepts(method: type[AnyDistiller], config: Any, case: Case, tell: Tell) -> bool:
    """Look at one made-up pair; whether the method takes it at all."""

    def tell_here(message: str, fix: str) -> None:
        tell(message, f"{fix} (seen with {case.label})")

    with suppress(_Broken):  # what broke it has been told
        needs = _needs(method, config, tell_here)
        with _guarded("check", tell_here):
            try:
                method.check(config, case.pair(needs))
            except UnsupportedPair:
                return False
        _Kit(method, config, case, needs, tell_here).look()
    return True


def _needs(method: type[AnyDistiller], config: Any, tell: Tell) -> Needs:
    with _guarded("needs_for", tell):
        needs = method.needs_for(config)
    if not isinstance(needs, Needs):
        tell("needs_for does not return a Needs", "return Needs(...)")
        raise _Broken
    return needs


@contextmanager
def _guarded(where: str, tell: Tell) -> Iterator[None]:
    """Turn whatever a stranger's code raises into a fault, after which this pair is given up."""
    try:
        yield
    except _Broken:
        raise
    except Exception as cause:
        hint = cause.hint if isinstance(cause, CompressorError) and cause.hint else f"make {where} work on such a pair"
        tell(f"{where} raises {_in_words(cause)}", hint)
        raise _Broken from cause


def _in_words(cause: Exception) -> str:
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__


class _Kit:
    """The checks of one method on one made-up pair."""

    def __init__(self, method: type[AnyDistiller], config: Any, case: Case, needs: Needs, tell: Tell) -> None:
        self.method = method
        self.config = config
        self.case = case
        self.needs = needs
        self.tell = tell
        self.distiller = self.build(seed=0)
        self.phases = self._phases()

    def build(self, seed: int) -> AnyDistiller:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            with _guarded("__init__", self.tell):
                return self.method(self.config, self.case.pair(self.needs))

    def look(self) -> None:
        for phase in self.phases:
            self._look_at_phase(phase)
        self._look_at_micro_batches(self.phases[-1])
        self._look_at_state(self.phases[-1])
        self._look_at_order(self.phases[-1])
        self._look_at_memory()
        self._look_at_export()

    def _phases(self) -> list[Phase]:
        with _guarded("phases", self.tell):
            phases = list(self.distiller.phases())
        if not phases or "student" not in phases[-1].trains:
            self.tell("the last phase does not train the student", "end phases() with one whose trains has 'student'")
            raise _Broken
        names = [phase.name for phase in phases]
        if len(set(names)) < len(names):
            self.tell(f"phases share a name: {', '.join(names)}", "give each its own")
        children = {name for name, _ in self.distiller.named_children()}
        known = {item.name for item in fields(self.config)}
        for phase in phases:
            unknown = sorted(set(phase.trains) - {"student", *children})
            if unknown:
                there = ", ".join(["student", *sorted(children)])
                self.tell(f"phase {phase.name!r} trains {', '.join(unknown)}: no such module", f"there are: {there}")
                raise _Broken
            strange = sorted(set(phase.artefact_settings) - known)
            if strange:
                self.tell(f"phase {phase.name!r} names settings {', '.join(strange)}", "name fields of Config")
            self._look_at_schedule(phase)
        return phases

    def _look_at_schedule(self, phase: Phase) -> None:
        plan = phase.schedule
        if plan is None:
            return
        if plan.epochs < 0 or not plan.lr > 0 or not all(0 < share < 1 for share in plan.milestones):
            self.tell(
                f"phase {phase.name!r} has schedule {plan}", "epochs >= 0, lr > 0, milestones as shares in (0, 1)"
            )

    def terms(self, distiller: AnyDistiller, phase: Phase, scene: Scene, seed: int = 0) -> Terms:
        """Run a phase's terms as the core does: what it trains in train mode with gradients, the rest frozen."""
        for name, child in distiller.named_children():
            child.train(name in phase.trains).requires_grad_(name in phase.trains)
        own = next(one for one in distiller.phases() if one.name == phase.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            with _guarded(f"phase {phase.name!r}", self.tell):
                return own.terms(scene.batch, *scene.outputs(runs_student=phase.runs_student))

    def after_step(self, distiller: AnyDistiller, scene: Scene) -> None:
        with _guarded("after_step", self.tell):
            distiller.after_step(scene.batch)

    def _look_at_phase(self, phase: Phase) -> None:
        scene = make_scene(self.case, self.needs, seed=1)
        self._look_for_overwriting(phase, scene)
        scene = scene.apart(gradient=True)
        self.distiller.zero_grad(set_to_none=True)
        terms = self.terms(self.distiller, phase, scene)
        self._look_at_values(phase, terms)
        self._backward(phase, terms)
        self._look_at_gradients(phase, scene)
        if phase is self.phases[-1]:
            self.after_step(self.distiller, scene)

    def _backward(self, phase: Phase, terms: Terms) -> None:
        total = torch.stack(list(terms.values())).sum()
        if total.requires_grad:
            with _guarded(f"the backward pass of phase {phase.name!r}", self.tell):
                torch.autograd.backward(total)

    def _look_for_overwriting(self, phase: Phase, scene: Scene) -> None:
        given = scene.apart(gradient=False)
        self.terms(self.distiller, phase, given)
        before = {f"teacher's {name}": (value, given.teacher[name]) for name, value in scene.teacher.items()}
        before |= {f"student's {name}": (value, given.student[name]) for name, value in scene.student.items()}
        before["labels"] = (scene.batch.labels, given.batch.labels)
        for what, (value, after) in before.items():
            if not torch.equal(value, after):
                self.tell(f"phase {phase.name!r} overwrites the {what}", "work on a copy: others read them too")
        if any(value.requires_grad for value in given.teacher.values()):
            self.tell(f"phase {phase.name!r} asks the teacher for gradients", "leave its tensors as they are")

    def _look_at_values(self, phase: Phase, terms: Any) -> None:
        what = f"terms of phase {phase.name!r}"
        if not isinstance(terms, dict) or not terms:
            self.tell(f"{what} are {type(terms).__name__} {terms!r:.40}", "return a dict of at least one named tensor")
            raise _Broken
        for name, value in terms.items():
            if not isinstance(value, Tensor) or value.dim() != 0 or not value.is_floating_point():
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                self.tell(f"{what}: {name!r} is {shape}", "return 0-d floating-point tensors")
                raise _Broken
            if not torch.isfinite(value):
                self.tell(f"{what}: {name!r} is {value.item()}", "keep it finite for ordinary answers")
                raise _Broken

    def _look_at_gradients(self, phase: Phase, scene: Scene) -> None:
        def reached(tensors: Any) -> bool:
            return any(value.grad is not None and bool(value.grad.any()) for value in tensors)

        if "student" in phase.trains and not reached(scene.student.values()):
            self.tell(f"no gradient of phase {phase.name!r} reaches the student", "do not detach its answer")
        for name, value in scene.teacher.items():
            if reached([value]):
                self.tell(f"a gradient of phase {phase.name!r} reaches the teacher's {name}", f"use {name}.detach()")
        for name in sorted(set(phase.trains) - {"student"}):
            parameters = list(self.distiller.get_submodule(name).parameters())
            if parameters and not reached(parameters):
                self.tell(f"phase {phase.name!r} trains {name!r}, no gradient reaches it", "use it or do not name it")

    def _look_at_micro_batches(self, phase: Phase) -> None:
        scenes = [make_scene(self.case, self.needs, seed=2 + number, step=1) for number in range(2)]
        for scene in scenes:
            self._backward(phase, self.terms(self.distiller, phase, scene))
        for scene in scenes:
            self.after_step(self.distiller, scene)

    def _look_at_state(self, phase: Phase) -> None:
        scene = make_scene(self.case, self.needs, seed=4, step=2)
        other = self.build(seed=1)
        state = {key: value.clone() for key, value in self.distiller.state_dict().items()}
        try:
            other.load_state_dict(state)
        except Exception as cause:  # noqa: BLE001  # a stranger's code may raise anything
            self.tell(f"its own state cannot be loaded: {_in_words(cause)}", "keep state in modules and buffers")
            return
        wanted, got = (self.terms(one, phase, scene.apart(gradient=False)) for one in (self.distiller, other))
        for name in wanted:
            if name not in got or not torch.allclose(wanted[name], got[name], rtol=1e-6, atol=0):
                self.tell(
                    f"{name!r} differs after its state was saved and loaded", "register buffers for all that moves"
                )

    def _look_at_order(self, phase: Phase) -> None:
        """A method without a memory gives a batch's images the same terms in any order, unless it draws."""
        if self.method.after_step is not Distiller.after_step:
            return
        scene = make_scene(self.case, self.needs, seed=5, step=3)
        first, again = (self.terms(self.distiller, phase, scene.apart(gradient=False), seed) for seed in (0, 1))
        if not all(torch.equal(first[name], again[name]) for name in first):
            return
        order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(6))
        turned = self.terms(self.distiller, phase, scene.permuted(order))
        for name, value in first.items():
            if not torch.allclose(value, turned[name], rtol=1e-3, atol=1e-5):
                self.tell(f"{name!r} depends on the order of the batch", "treat images alike, and rows view fastest")

    def _look_at_memory(self) -> None:
        with _guarded("memory_bytes", self.tell):
            size = self.method.memory_bytes(self.config, self.case.pair(self.needs))
        if not isinstance(size, int) or size < 0:
            self.tell(f"memory_bytes returns {size!r}", "return whole bytes, >= 0")

    def _look_at_export(self) -> None:
        net = nn.Linear(2, 2)
        with _guarded("export", self.tell):
            exported = self.distiller.export(net)
        own = {id(parameter) for parameter in self.distiller.parameters()}
        if not isinstance(exported, nn.Module) or {id(parameter) for parameter in exported.parameters()} & own:
            self.tell("export does not return the student alone", "leave heads, adapters and banks behind")
