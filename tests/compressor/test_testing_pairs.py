"""A method on real networks: what works is told from what is refused and from what is broken."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compressor.distiller import Batch, Distiller, ModelOutput, Needs, Negatives, Pair, Phase, Rotations, Terms
from compressor.errors import UnsupportedPair
from compressor.testing.pairs import Networks, RealPair


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks(RealPair(student="cifar_resnet8", teacher="cifar_resnet14", image_size=16))


@dataclass(frozen=True, kw_only=True)
class PlainConfig:
    weight: float = 1.0


class Plain(Distiller[PlainConfig]):
    """Works; those below differ in one thing each."""

    name = "plain"
    Config = PlainConfig

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        return {"mse": self.config.weight * F.mse_loss(student.logits, teacher.logits)}


def test_a_pair_that_is_taken_is_served_what_was_declared(networks: Networks) -> None:
    class Greedy(Plain):
        needs = Needs(
            stages=True,
            preacts=True,
            embedding=True,
            index=True,
            negatives=Negatives(50),
            views=Rotations(2),
            tails=True,
            classifier=True,
        )

        def __init__(self, config: PlainConfig, pair: Pair) -> None:
            super().__init__(config, pair)
            self.classifier = pair.require_teacher("greedy").copy_classifier()
            self.tail = pair.student.make_tail(2)

        def phases(self) -> Sequence[Phase]:
            return (Phase(name="student", trains=("student", "tail"), terms=self.terms),)

        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            assert student.logits.shape == teacher.logits.shape == (16, 5)
            assert batch.contrast.shape == (8, 51)
            assert torch.allclose(self.classifier(teacher.embedding), teacher.logits, atol=1e-5)
            assert len(teacher.preacts) == len(student.stages) == 4
            assert not teacher.logits.requires_grad
            return {"mse": F.mse_loss(self.tail(student.stages[2]), teacher.embedding)}

    verdict = networks.try_method(Greedy)
    assert (verdict.refused, verdict.faults) == (None, ())


def test_settings_may_be_given(networks: Networks) -> None:
    verdict = networks.try_method(Plain, PlainConfig(weight=float("inf")))
    assert verdict.faults[0] == "term 'mse' of phase 'student' is inf"


def test_a_refusal_is_told_with_its_hint_and_is_no_fault(networks: Networks) -> None:
    class Picky(Plain):
        @classmethod
        def check(cls, config: PlainConfig, pair: Pair) -> None:
            assert pair.teacher is not None
            raise UnsupportedPair(f"no {pair.teacher.name}", hint="another")

    verdict = networks.try_method(Picky)
    assert (verdict.refused, verdict.hint, verdict.faults) == ("no cifar_resnet14", "another", ())


def test_a_refusal_that_comes_only_when_the_method_is_built_is_a_fault(networks: Networks) -> None:
    class Late(Plain):
        def __init__(self, config: PlainConfig, pair: Pair) -> None:
            raise UnsupportedPair("no")

    verdict = networks.try_method(Late)
    assert verdict.refused is None
    assert verdict.faults == ("it takes the pair, and cannot be built on it: UnsupportedPair: no",)


def test_a_student_without_gradient_and_a_phase_that_raises_are_found(networks: Networks) -> None:
    class Detached(Plain):
        def __init__(self, config: PlainConfig, pair: Pair) -> None:
            super().__init__(config, pair)
            self.head = nn.Linear(pair.num_classes, pair.num_classes)

        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            return {"mse": self.head(student.logits.detach()).square().mean()}

    class Raising(Plain):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            return {"mse": student.stages[0].mean()}

    assert networks.try_method(Detached).faults == ("no gradient of phase 'student' reaches the student",)
    (fault,) = networks.try_method(Raising).faults
    assert fault.startswith("phase 'student' raises PluginError: stages of the student were read but not served")


def test_a_gradient_that_is_not_finite_is_found(networks: Networks) -> None:
    class Cornered(Plain):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            return {"root": (student.logits - student.logits.detach()).abs().sum().sqrt()}

    assert "a gradient of phase 'student' at the student is not finite" in networks.try_method(Cornered).faults


class Teaching(Plain):
    """Trains the network in the teacher's place."""

    needs = Needs(own_teacher=True)

    def phases(self) -> Sequence[Phase]:
        return (Phase(name="both", trains=("student", "teacher"), terms=self.terms),)


def test_only_a_teacher_of_the_methods_own_may_change(networks: Networks) -> None:
    class Trespassing(Teaching):
        needs = Needs()

    assert networks.try_method(Teaching).faults == ()
    (fault,) = networks.try_method(Trespassing).faults
    assert fault.startswith("the teacher has changed: net.bn1.running_mean, net.bn1.running_var")
    assert networks.try_method(Plain).faults == ()  # and it was put back for the next
