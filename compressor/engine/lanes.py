"""A lane: one student, its method, its optimiser, its place; many lanes may share one teacher pass."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from compressor.config.settings import TrainingConfig
from compressor.distiller import Distiller, ModelOutput, Needs, Phase, Terms
from compressor.engine.meters import Meter, Notes
from compressor.engine.normalise import Normalisation
from compressor.engine.optimisation import LearningRate, is_recordable, make_optimizer, schedule_of
from compressor.engine.parts import Part, filled, tensors_of
from compressor.engine.repeated import Repeated
from compressor.engine.runtime import Runtime
from compressor.engine.views import wanted_of
from compressor.errors import PluginError, TrainingError
from compressor.models.create import BuiltModel
from compressor.models.taps import TappedModel
from compressor.streams import derive

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class OwnTeacher:
    """A network that stands in the teacher's place and belongs to one lane, which trains it.

    Args:
        built: the network, and what builds it. tapped: the same with taps. normalisation: how it sees images.
        fresh: makes another one, its random weights drawn from a seed.
    """

    built: BuiltModel
    tapped: TappedModel
    normalisation: Normalisation
    fresh: Callable[[int], "OwnTeacher"]

    @property
    def name(self) -> str:
        """Of its architecture, as it is shown."""
        return self.built.name.display


class LaneModule(nn.Module):
    """Everything of a lane that may train, in the one module that is prepared for several processes."""

    def __init__(self, student: TappedModel, distiller: Distiller[Any], own_teacher: TappedModel | None = None) -> None:
        super().__init__()
        self.student = student
        self.distiller = distiller
        self.own_teacher = own_teacher

    def forward(self, part: Part, phase: Phase, needs: Needs) -> Terms:
        """Return the phase's terms; networks run in the run's precision, terms compute in float32 at least."""
        wanted = wanted_of(needs, "student")
        answer = self.student(part.images, wanted) if phase.runs_student else ModelOutput(owner="student")
        teacher = part.teacher
        if needs.own_teacher and self.own_teacher is not None:
            with torch.set_grad_enabled("teacher" in phase.trains):
                teacher = self.own_teacher(part.own_teacher_images, wanted_of(needs, "teacher"))
        with torch.autocast(part.images.device.type, enabled=False):
            return phase.terms(part.batch, answer.apply(_at_least_float32), teacher.apply(_at_least_float32))


@dataclass
class Position:
    """Where a lane is: its phase and the optimiser steps of that phase that are done."""

    phase: int = 0
    step: int = 0


@dataclass
class Best:
    """The best look at the held-out part so far: accuracy in percent, its epoch, and the student's weights then."""

    top1: float | None = None
    epoch: int | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)


class Lane:
    """One student on its way.

    Args:
        name: for events, such as ``kd s0``. student: with taps, on the CPU or the device.
        distiller: the method, built for this pair. training: the run's settings. seed: of every draw.
        phases: None takes the method's own. own_teacher: the network in the teacher's place, where the lane has one.

    Attributes:
        saved: names of the method's modules that belong to this lane's state; None for all of them.
        rate_option: what the user types to change the learning rate, up to its value.
        unrecorded: why the steps of this phase are not recorded for repetition, empty where they may be.
        warn: takes what the user should know.
    """

    def __init__(
        self,
        *,
        name: str,
        student: TappedModel,
        distiller: Distiller[Any],
        training: TrainingConfig,
        seed: int,
        runtime: Runtime,
        phases: Sequence[Phase] | None = None,
        own_teacher: OwnTeacher | None = None,
    ) -> None:
        self.name = name
        self.training = training
        self.seed = seed
        self.runtime = runtime
        self.own_teacher = own_teacher
        self.module = LaneModule(student, distiller, None if own_teacher is None else own_teacher.tapped)
        self._needs = type(distiller).needs_for(distiller.config)
        self.phases = tuple(distiller.phases() if phases is None else phases)
        self.saved: tuple[str, ...] | None = None
        self.rate_option = "--lr "
        self.position = Position()
        self.meter = Meter()
        self.notes = Notes()
        self.best = Best()
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._may_train = {id(parameter) for parameter in student.parameters() if parameter.requires_grad}
        self._begun: int | None = None
        self.unrecorded = ""
        self.warn: Callable[[str], None] = lambda message: None
        self._repeated: Repeated | None = None
        self._recorded_epoch = 0
        self._names: tuple[list[tuple[str, ...]], list[str]] = ([], [])
        self.ema: ModelEmaV3 | None = None

    @property
    def scaled(self) -> bool:
        """Whether passes run in less than float32."""
        return self.runtime.precision != "fp32"

    @property
    def needs(self) -> Needs:
        """What the phase that the lane is in is served."""
        return self.phase.needs or self._needs

    @property
    def trains_peer(self) -> bool:
        """Whether the network in the teacher's place learns beside the student to the end, and is a product too."""
        return "teacher" in self.phases[-1].trains

    @property
    def phase(self) -> Phase:
        """The phase the lane is in."""
        return self.phases[self.position.phase]

    @property
    def recorded(self) -> bool:
        """Whether the steps of the phase are done from a recording by now."""
        return self._repeated is not None and self._repeated.recorded

    def method_state(self) -> dict[str, Tensor]:
        """Return the method's own state, as far as it belongs to this lane."""
        state: dict[str, Tensor] = self.module.distiller.state_dict()
        if self.saved is None:
            return state
        return {key: value for key, value in state.items() if key.partition(".")[0] in self.saved}

    @property
    def in_last_phase(self) -> bool:
        """Whether this is the phase that all lanes share a loop for."""
        return self.position.phase == len(self.phases) - 1

    @property
    def trained(self) -> nn.Module:
        """The student's network, or its moving average."""
        return self.ema.module if self.ema is not None and self.in_last_phase else self.module.student.net

    @property
    def exported(self) -> nn.Module:
        """The network that is evaluated and published: the student, and what the method says belongs to it."""
        return self.module.distiller.export(self.trained)

    def begin(self) -> None:
        """Freeze and unfreeze for the current phase, and make its optimiser; does nothing if that is done."""
        if self._begun == self.position.phase:
            return
        phase = self.phase
        schedule = schedule_of(self.training, phase.schedule)
        self._freeze(phase)
        self._prepared = self.runtime.prepare(self.module)
        parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        if not parameters:
            raise PluginError(f"phase {phase.name!r} of {self.name} trains nothing: {phase.trains} have no parameters")
        self.optimizer = make_optimizer(
            parameters, self.training, schedule.lr or self.training.lr, device=self.runtime.fast_device
        )
        self.scaler = torch.amp.GradScaler(self.runtime.device.type) if self.runtime.precision == "fp16" else None
        if self.training.ema_decay and self.in_last_phase:
            self.ema = ModelEmaV3(self.module.student.net, decay=self.training.ema_decay)
        self.unrecorded = self._why_unrecorded()
        recorder = None if self.unrecorded else self.runtime.recorder
        rate_device = None if recorder is None else self.runtime.device
        self.rate = LearningRate(self.optimizer, self.training, schedule, device=rate_device)
        self._repeated = None if recorder is None else Repeated(recorder, self._state, self._unrecordable)
        self._begun = self.position.phase

    def step(self, parts: Sequence[Part]) -> None:
        """Do one optimiser step over all parts of a batch, and move on by one.

        Raises:
            TrainingError: a term is not finite, named; the weights are untouched by that step.
        """
        if self._repeated is None:
            self._seed(0)
            said = self._work(parts)
        else:
            said = self._repeat(self._repeated, parts)
        for part, (names, values) in zip(parts, said, strict=True):
            self.meter.add(names, values, part.weight)
        self.position.step += 1

    def note(self, name: str, value: Tensor) -> None:
        """Take down a number of the method's for the log."""
        self.notes.add(name, value)

    def _seed(self, number: int) -> None:
        """Seed what part ``number`` of the step draws; while a step is being recorded draws go on by themselves."""
        if self.runtime.device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
            torch.manual_seed(derive(self.seed, "forward", self.position.phase, self.position.step, number))

    def _work(self, parts: Sequence[Part]) -> list[tuple[tuple[str, ...], Tensor]]:
        """Do all that a step does on the device; return names and values of the terms of each part."""
        self._set_modes()
        said = []
        for number, part in enumerate(parts):
            if number:
                self._seed(number)
            last = number == len(parts) - 1
            synchronise = nullcontext() if last or self.runtime.world == 1 else self._prepared.no_sync()  # type: ignore[operator]  # of DistributedDataParallel
            with synchronise:
                said.append(self._backward(part))
        self._update()
        for part in parts:
            self.module.distiller.after_step(part.batch)
        return said

    def _repeat(self, repeated: Repeated, parts: Sequence[Part]) -> list[tuple[tuple[str, ...], Tensor]]:
        """Do the step's work, or have it done from a recording; what a method notes comes out with the terms."""
        if self.module.distiller.capturable == "epoch" and parts[0].batch.epoch != self._recorded_epoch:
            repeated.forget()
            self._recorded_epoch = parts[0].batch.epoch

        def work(tensors: Sequence[Tensor]) -> list[Tensor]:
            noted: list[tuple[str, Tensor]] = []
            given = filled(parts, tensors)
            said = self._work(
                [
                    replace(part, batch=replace(part.batch, note=lambda name, value: noted.append((name, value))))
                    for part in given
                ]
            )
            self._names = [names for names, _ in said], [name for name, _ in noted]
            return [*(values for _, values in said), *(value.detach().float() for _, value in noted)]

        done = list(repeated(work, tensors_of(parts), lambda: self._seed(0)))
        of_terms, of_notes = self._names
        for name, value in zip(of_notes, done[len(of_terms) :], strict=True):
            self.note(name, value)
        return list(zip(of_terms, done, strict=False))

    def _state(self) -> list[Tensor]:
        """List every tensor that a step may change."""
        kept = [value for state in self.optimizer.state.values() for value in state.values()]
        averaged = [] if self.ema is None else list(self.ema.module.state_dict().values())
        own = [*self.module.parameters(), *self.module.buffers()]
        return [*own, *(value for value in kept if isinstance(value, Tensor)), *averaged]

    def _why_unrecorded(self) -> str:
        if self.runtime.recorder is None:
            return "nothing is recorded on this device"
        if self.module.distiller.capturable == "no":
            return f"{self.module.distiller.name} does not declare that its steps may be recorded (capturable)"
        if self.scaler is not None:
            return "fp16 adapts its scale from step to step"
        if not is_recordable(self.optimizer):
            return f"optimizer {self.training.optimizer} reads numbers of the device in each step"
        return ""

    def _unrecordable(self, reason: str) -> None:
        self.warn(f"{self.name}: steps are not recorded, going on one by one ({reason})")

    def _backward(self, part: Part) -> tuple[tuple[str, ...], Tensor]:
        with self.runtime.autocast():
            terms: Terms = self._prepared(part, self.phase, self.needs)
        if not terms:
            raise PluginError(f"{self.name}: phase {self.phase.name!r} returned no terms")
        self._check_terms(terms)
        if not self.runtime.asynchronous:
            self.check_finite(terms)
        loss = torch.stack(list(terms.values())).sum() * part.weight * self.runtime.world
        scaled: Tensor = loss if self.scaler is None else self.scaler.scale(loss)
        torch.autograd.backward(scaled)
        return tuple(terms), torch.stack([value.detach().float() for value in terms.values()])

    def _update(self) -> None:
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.module.student.net)

    def _check_terms(self, terms: Any) -> None:
        if not isinstance(terms, Mapping):
            raise PluginError(f"{self.name}: phase {self.phase.name!r} returned a {type(terms).__name__}, not a table")
        for name, value in terms.items():
            if not isinstance(value, Tensor) or value.dim():
                what = (
                    f"has shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"is a {type(value).__name__}"
                )
                raise PluginError(f"{self.name}: term {name!r} {what}, not a single number in a tensor")
        if not any(value.requires_grad for value in terms.values()):
            raise PluginError(f"{self.name}: no term of phase {self.phase.name!r} has a gradient")

    def check_finite(self, terms: Mapping[str, Tensor | float]) -> None:
        """Refuse to go on with a term that is not finite.

        Raises:
            TrainingError: naming the term, the step and the rate.
        """
        for name, value in terms.items():
            if not torch.isfinite(torch.as_tensor(value)):
                rate = self.rate.now
                kind = "NaN" if torch.isnan(torch.as_tensor(value)) else "infinite"
                raise TrainingError(
                    f"{self.name}: loss became {kind} at step {self.position.step} (term {name!r}, lr {rate:g})",
                    hint=f"{self.rate_option}{rate / 4:g}" + (", or --precision fp32" if self.scaled else ""),
                    code="training.not_finite",
                )

    def _freeze(self, phase: Phase) -> None:
        children = dict(self.module.distiller.named_children())
        networks = {"student"} if self.own_teacher is None else {"student", "teacher"}
        unknown = set(phase.trains) - {*networks, *children}
        if unknown:
            raise PluginError(
                f"{self.name}: phase {phase.name!r} trains {sorted(unknown)}, the method has no such modules"
            )
        for parameter in self.module.student.parameters():
            parameter.requires_grad_("student" in phase.trains and id(parameter) in self._may_train)
        if self.module.own_teacher is not None:
            self.module.own_teacher.requires_grad_("teacher" in phase.trains)
        for name, child in children.items():
            child.requires_grad_(name in phase.trains)
        for parameter in self.module.distiller.parameters(recurse=False):
            parameter.requires_grad_(False)

    def _set_modes(self) -> None:
        """Set train and eval afresh each step, so that nobody's own ``train()`` reaches what is frozen."""
        self.module.student.train("student" in self.phase.trains)
        if self.module.own_teacher is not None:
            self.module.own_teacher.train("teacher" in self.phase.trains)
        for name, child in self.module.distiller.named_children():
            child.train(name in self.phase.trains)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in _HALF else tensor
