"""A method on two real networks: looked at by the core's own taps, run forward and backward once in every phase."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressor.distiller import Batch, ModelOutput, Needs, NetworkSpec, Owner, Pair, Phase
from compressor.errors import UnsupportedPair
from compressor.functional import wide
from compressor.testing.subject import AnyDistiller, in_words, same_bits

_IMAGES = 8
_TRAINING_IMAGES = 40
_CLASSES = 5


@dataclass(frozen=True, kw_only=True)
class RealPair:
    """Two networks by name, and the pixels a side of the images that they are tried with."""

    student: str
    teacher: str
    image_size: int = 32

    @property
    def label(self) -> str:
        """``teacher -> student``, as people write it."""
        return f"{self.teacher} -> {self.student}"


REAL_PAIRS = (
    RealPair(teacher="cifar_resnet20", student="cifar_resnet8"),
    RealPair(teacher="cifar_resnet8", student="cifar_wrn_16_1"),
    RealPair(teacher="timm/resnet10t", student="timm/test_resnet", image_size=64),
    RealPair(teacher="timm/test_vit", student="cifar_resnet8"),
)
"""One family, two families, timm's own, and a transformer that teaches a convolutional network."""


@dataclass(frozen=True)
class Verdict:
    """What became of a method on a real pair.

    Attributes:
        refused: why the method does not take the pair; None where it does. hint: what to do about that.
        faults: what went wrong where it took the pair.
    """

    pair: RealPair
    refused: str | None = None
    hint: str | None = None
    faults: tuple[str, ...] = ()


class Networks:
    """The two networks of a pair with random weights, made once for any number of methods."""

    def __init__(self, pair: RealPair) -> None:
        from compressor.models.create import create_model

        self.pair = pair
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self._student, self._teacher = (
                create_model(name, num_classes=_CLASSES, image_size=pair.image_size)
                for name in (pair.student, pair.teacher)
            )

    def try_method(self, method: type[AnyDistiller], config: Any = None) -> Verdict:
        """Build a method on the pair and run each of its phases once, forward and backward, on noise.

        Looked at: finite terms; a gradient that reaches the student, or a teacher that the method trains; a teacher
        that it does not train stays as it was, weights and running statistics, bit for bit.

        Args:
            config: the method's settings; None for the defaults.
        """
        settings = method.Config() if config is None else config
        trial = _Trial(method, settings, self._student, self._teacher, self.pair)
        try:
            trial.check()
        except UnsupportedPair as refusal:
            return Verdict(self.pair, refused=refusal.message, hint=refusal.hint)
        try:
            return Verdict(self.pair, faults=tuple(trial.run()))
        except Exception as cause:  # noqa: BLE001  # a stranger's code may raise anything
            return Verdict(self.pair, faults=(f"it takes the pair, and cannot be built on it: {in_words(cause)}",))


class _Trial:
    """One method on two real networks."""

    def __init__(
        self, method: type[AnyDistiller], config: Any, student: nn.Module, teacher: nn.Module, pair: RealPair
    ) -> None:
        from compressor.models.taps import TappedModel

        self.method, self.config, self.pair = method, config, pair
        self.needs = method.needs_for(config)
        self.student = TappedModel(student, owner="student")
        self.teacher = TappedModel(teacher, owner="teacher")
        draw = torch.Generator().manual_seed(1)
        self.images = torch.randn(_IMAGES, 3, pair.image_size, pair.image_size, generator=draw)

    def check(self) -> None:
        """Look at both networks, and let the method refuse them.

        Raises:
            UnsupportedPair: it does.
        """
        student = self._spec(self.student, self.pair.student, "student")
        teacher = self._spec(self.teacher, self.pair.teacher, "teacher")
        self.known = Pair(
            student=student,
            teacher=teacher if self.needs.teacher else None,
            num_classes=_CLASSES,
            train_size=_TRAINING_IMAGES,
            class_counts=(_TRAINING_IMAGES // _CLASSES,) * _CLASSES,
        )
        self.method.check(self.config, self.known)

    def _spec(self, tapped: Any, name: str, owner: Owner) -> NetworkSpec:
        from compressor.models.specs import network_spec

        size = (3, self.pair.image_size, self.pair.image_size)
        return network_spec(tapped, name, size, wanted=_wanted(self.needs, owner))

    def run(self) -> list[str]:
        """Build the method, run each phase, and return what went wrong."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.distiller = self.method(self.config, self.known)
        before = {name: value.clone() for name, value in self.teacher.state_dict().items()}
        faults: list[str] = []
        for phase in self.distiller.phases():
            try:
                faults += self._phase(phase)
            except Exception as cause:  # noqa: BLE001  # a stranger's code may raise anything
                faults.append(f"phase {phase.name!r} raises {in_words(cause)}")
        moved = [name for name, value in self.teacher.state_dict().items() if not same_bits(before[name], value)]
        if moved and not self.needs.own_teacher:
            faults.append(f"the teacher has changed: {', '.join(moved[:3])}")
        self.teacher.load_state_dict(before)
        return faults

    def _phase(self, phase: Phase) -> list[str]:
        needs = phase.needs or self.needs
        self._freeze(phase)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            batch, ours, theirs = self._batch(needs), ModelOutput(owner="student"), ModelOutput(owner="teacher")
            images = self._views(needs)
            if phase.runs_student:
                ours = self.student(images, _wanted(needs, "student")).apply(wide)
            if needs.teacher:
                with torch.set_grad_enabled("teacher" in phase.trains):
                    theirs = self.teacher(images, _wanted(needs, "teacher")).apply(wide)
            terms = phase.terms(batch, ours, theirs)
            torch.autograd.backward(torch.stack(list(terms.values())).sum())
        self.distiller.after_step(batch)
        return [*_unfinished(phase, terms), *self._lost_gradients(phase)]

    def _freeze(self, phase: Phase) -> None:
        parts = {"student": self.student, "teacher": self.teacher, **dict(self.distiller.named_children())}
        for name, part in parts.items():
            part.zero_grad(set_to_none=True)
            part.requires_grad_(name in phase.trains).train(name in phase.trains)

    def _views(self, needs: Needs) -> Tensor:
        views = [needs.views.transform(self.images, number) for number in range(needs.views.count)]
        return torch.stack(views, dim=1).flatten(0, 1)

    def _batch(self, needs: Needs) -> Batch:
        labels = torch.arange(_IMAGES) % _CLASSES
        index = torch.arange(_IMAGES)
        others = torch.stack([(torch.arange(_TRAINING_IMAGES) % _CLASSES != label).nonzero()[:, 0] for label in labels])
        contrast = None
        if needs.negatives is not None:
            drawn = torch.randint(others.shape[1], (_IMAGES, needs.negatives.count))
            contrast = torch.cat([index[:, None], others.gather(1, drawn)], dim=1)
        return Batch(
            labels=labels,
            views=needs.views.count,
            epoch=0,
            step=0,
            progress=0.0,
            index_or_none=index if needs.index or needs.negatives else None,
            contrast_or_none=contrast,
        )

    def _lost_gradients(self, phase: Phase) -> list[str]:
        networks = {"student": self.student, "teacher": self.teacher}
        faults = []
        for name, network in networks.items():
            grads = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
            reached = any(bool(grad.any()) for grad in grads)
            if reached != (name in phase.trains):
                faults.append(f"{'a' if reached else 'no'} gradient of phase {phase.name!r} reaches the {name}")
            if not all(bool(torch.isfinite(grad).all()) for grad in grads):
                faults.append(f"a gradient of phase {phase.name!r} at the {name} is not finite")
        return faults


def _unfinished(phase: Phase, terms: dict[str, Tensor]) -> list[str]:
    bad = {name: value.item() for name, value in terms.items() if not bool(torch.isfinite(value))}
    return [f"term {name!r} of phase {phase.name!r} is {value}" for name, value in bad.items()]


def _wanted(needs: Needs, owner: Owner) -> Any:
    from compressor.models.taps import Wanted

    own = needs.of(owner)
    return Wanted(
        stages=bool(own.stages),
        preacts=bool(own.preacts),
        embedding=bool(own.embedding),
        tails=needs.tails,
        classifier=needs.classifier,
    )
