"""The contract kit finds what it is there for: one broken method a test, each broken in one way."""

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import (
    Batch,
    Distiller,
    ModelOutput,
    Needs,
    Negatives,
    Pair,
    Phase,
    Rotations,
    Schedule,
    Terms,
)
from compressor.errors import UnsupportedPair
from compressor.testing import check_architecture, check_distiller


@dataclass(frozen=True, kw_only=True)
class PlainConfig:
    weight: float = 1.0


class Plain(Distiller[PlainConfig]):
    """Keeps the contract; the broken ones below differ in one thing each."""

    name = "plain"
    Config = PlainConfig

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        return {"mse": self.config.weight * F.mse_loss(student.logits, teacher.logits.detach())}


def messages(method: Any) -> list[str]:
    return [fault.message for fault in check_distiller(method)]


def test_a_method_that_keeps_the_contract_has_no_faults() -> None:
    assert check_distiller(Plain) == []


def test_a_method_that_wants_everything_is_served_everything() -> None:
    class Greedy(Plain):
        name = "greedy"
        needs = Needs(
            stages=True, preacts=True, embedding=True, index=True, negatives=Negatives(5, "relaxed"), views=Rotations(3)
        )

        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            rows = len(batch.labels) * 3
            assert student.logits.shape[0] == student.embedding.shape[0] == teacher.embedding.shape[0] == rows
            assert batch.contrast.shape == (len(batch.labels), 6)
            assert batch.index.shape == batch.labels.shape
            for maps, before in zip(student.stages, student.preacts, strict=True):
                assert torch.equal(maps, before.relu())
            return {"maps": torch.stack([maps.mean() for maps in student.stages]).sum()}

    assert check_distiller(Greedy) == []


def test_class_and_settings_are_looked_at_first() -> None:
    class Loose:
        weight: float = 1.0

    class Misnamed(Plain):
        name = "Mis-Named"

    class WithoutFrozen(Plain):
        Config = Loose

    class Old(Plain):
        contract_version = 0

    assert messages(Misnamed) == ["its name is 'Mis-Named'"]
    assert messages(WithoutFrozen) == ["its `Config` must be a frozen dataclass"]
    assert messages(Old) == ["it is written for contract 0, this is 1"]
    assert messages(Loose) == ["it must be a subclass of compressor.distiller.Distiller"]


def test_settings_need_defaults_that_are_allowed() -> None:
    @dataclass(frozen=True)
    class Bare:
        weight: float

    @dataclass(frozen=True)
    class Strict:
        weight: float = -1.0

        def __post_init__(self) -> None:
            raise ValueError("weight must be >= 0")

    class WithBare(Plain):
        Config = Bare

    class WithStrict(Plain):
        Config = Strict

    assert messages(WithBare) == ["its settings weight have no default"]
    assert messages(WithStrict) == ["its default settings are refused: ValueError: weight must be >= 0"]


def test_reading_what_was_not_declared_is_found_with_the_line_that_declares_it() -> None:
    class Undeclared(Plain):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            return {"mse": student.stages[0].mean()}

    class Indices(Plain):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            return {"mse": student.logits.mean() * batch.contrast.float().mean()}

    (fault,) = check_distiller(Undeclared)
    assert "stages of the student were read but not served" in fault.message
    assert "Needs(stages=True)" in fault.fix
    (fault,) = check_distiller(Indices)
    assert "Needs(negatives=Negatives(K))" in fault.fix


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda value: {}, "terms of phase 'student' are dict {}"),
        (lambda value: value, "terms of phase 'student' are Tensor"),
        (lambda value: {"mse": value.expand(2)}, "terms of phase 'student': 'mse' is (2,)"),
        (lambda value: {"mse": 3.0}, "terms of phase 'student': 'mse' is float"),
        (lambda value: {"mse": value * float("nan")}, "terms of phase 'student': 'mse' is nan"),
        (lambda value: {"mse": value.detach()}, "no gradient of phase 'student' reaches the student"),
    ],
)
def test_terms_are_finite_named_scalars_with_a_gradient(make: Any, message: str) -> None:
    class Odd(Plain):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            terms: Terms = make(F.mse_loss(student.logits, teacher.logits.detach()))
            return terms

    assert messages(Odd)[0].startswith(message)


def test_a_gradient_towards_the_teacher_is_found() -> None:
    class Leaking(Plain):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            return {"mse": F.mse_loss(student.logits, teacher.logits)}

    assert messages(Leaking) == ["a gradient of phase 'student' reaches the teacher's logits"]


def test_overwriting_what_others_read_is_found() -> None:
    class Overwriting(Plain):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            target = teacher.logits.detach().mul_(2)
            batch.labels.zero_()
            return {"mse": F.mse_loss(student.logits, target)}

    assert messages(Overwriting) == [
        "phase 'student' overwrites the teacher's logits",
        "phase 'student' overwrites the labels",
    ]


class WithHead(Plain):
    def __init__(self, config: PlainConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.head = nn.Linear(pair.num_classes, pair.num_classes)

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        return {"mse": F.mse_loss(self.head(student.logits), teacher.logits.detach())}


def test_a_module_that_nothing_trains_is_found() -> None:
    class Idle(WithHead):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            return {"mse": F.mse_loss(student.logits, teacher.logits.detach())}

    assert check_distiller(WithHead) == []
    assert messages(Idle) == ["phase 'student' trains 'head', no gradient reaches it"]


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([], "the last phase does not train the student"),
        ([("one", ("head",), {})], "the last phase does not train the student"),
        ([("one", ("student",), {}), ("one", ("student",), {})], "phases share a name: one, one"),
        ([("one", ("student", "tail"), {})], "phase 'one' trains tail: no such module"),
        ([("one", ("student",), {"artefact_settings": ("size",)})], "phase 'one' names settings size"),
        ([("one", ("student",), {"schedule": Schedule(epochs=1, lr=0.0)})], "phase 'one' has schedule"),
        ([("one", ("student",), {"schedule": Schedule(epochs=1, lr=0.1, milestones=(30,))})], "phase 'one' has sch"),
    ],
)
def test_phases_are_well_formed(phases: list[tuple[str, tuple[str, ...], dict[str, Any]]], message: str) -> None:
    class Phased(WithHead):
        def phases(self) -> list[Phase]:
            return [Phase(name=name, trains=trains, terms=self.terms, **rest) for name, trains, rest in phases]

    assert messages(Phased)[0].startswith(message)


def test_state_that_is_not_saved_is_found() -> None:
    class Forgetful(Plain):
        def __init__(self, config: PlainConfig, pair: Pair) -> None:
            super().__init__(config, pair)
            self.mean = torch.zeros(pair.num_classes)

        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            self.latest: Tensor = student.logits.detach().mean(0)
            return {"mse": F.mse_loss(student.logits, teacher.logits.detach() - self.mean)}

        def after_step(self, batch: Batch) -> None:
            self.mean = self.mean + self.latest

    assert messages(Forgetful) == ["'mse' differs after its state was saved and loaded"]


def test_terms_that_hang_on_the_order_of_a_batch_are_found() -> None:
    class Ordered(Plain):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            return {"mse": F.mse_loss(student.logits[:2], teacher.logits[:2].detach())}

    assert messages(Ordered) == ["'mse' depends on the order of the batch"]


def test_a_method_that_draws_is_not_taken_for_one_that_hangs_on_the_order() -> None:
    class Drawing(Plain):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            return {"mse": F.mse_loss(F.dropout(student.logits), teacher.logits.detach())}

    assert check_distiller(Drawing) == []


def test_whatever_a_method_raises_becomes_a_fault_and_not_an_error_of_the_kit() -> None:
    class Raising(Plain):
        def __init__(self, config: PlainConfig, pair: Pair) -> None:
            raise KeyError("width")

    class LateRefusal(Plain):
        def __init__(self, config: PlainConfig, pair: Pair) -> None:
            raise UnsupportedPair("no")

    class Stumbling(Plain):
        def after_step(self, batch: Batch) -> None:
            raise RuntimeError("queue is full")

    assert messages(Raising) == ["__init__ raises KeyError: 'width'"]
    assert messages(LateRefusal) == ["__init__ raises UnsupportedPair: no"]
    assert messages(Stumbling) == ["after_step raises RuntimeError: queue is full"]


def test_a_method_may_refuse_some_pairs_but_not_all() -> None:
    class Picky(Plain):
        @classmethod
        def check(cls, config: PlainConfig, pair: Pair) -> None:
            if pair.num_classes == 2:
                raise UnsupportedPair("two classes are too few")

    class Stubborn(Plain):
        @classmethod
        def check(cls, config: PlainConfig, pair: Pair) -> None:
            raise UnsupportedPair("no")

    assert check_distiller(Picky) == []
    assert messages(Stubborn) == ["it refuses every pair of networks"]


def test_heads_that_would_be_published_are_found() -> None:
    class Clinging(WithHead):
        def export(self, student: nn.Module) -> nn.Module:
            return nn.Sequential(student, self.head)

    assert messages(Clinging) == ["export does not return the student alone"]


def test_every_fault_is_listed_and_says_what_to_do() -> None:
    class Twice(WithHead):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            return {"mse": F.mse_loss(student.logits[:2], teacher.logits[:2])}

    faults = check_distiller(Twice)
    assert len(faults) == 3
    assert all(fault.name == "plain" and fault.package is None for fault in faults)
    assert str(faults[0]).startswith(f"{faults[0].message}; ")
    assert all(fault.fix for fault in faults)


def test_faults_of_an_installed_method_name_its_distribution() -> None:
    from compressor.registry import load_method

    (fault, *_) = check_distiller(load_method("kd"), config=PlainConfig())
    assert (fault.name, (fault.package or "").split()[0]) == ("kd", "compress-kd")


@pytest.mark.parametrize("name", ["cifar_resnet8", "timm/resnet10t"])
def test_sound_networks_have_no_faults(name: str) -> None:
    assert [str(fault) for fault in check_architecture(name)] == []


def test_the_kit_needs_no_pytest() -> None:
    code = "import sys, compressor.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
