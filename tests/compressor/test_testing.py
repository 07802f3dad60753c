"""The contract kit finds what it is there for: one broken method a test, each broken in one way."""

import copy
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import (
    Batch,
    Distiller,
    ExtendedStudent,
    Link,
    ModelOutput,
    Needs,
    Negatives,
    Pair,
    Phase,
    Rotations,
    Schedule,
    Terms,
    Views,
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
        ([("one", ("student",), {"runs_student": False})], "phase 'one' trains the student and does not run it"),
        ([("one", ("student", "teacher"), {})], "phase 'one' trains the teacher, which others may share"),
        (
            [("one", ("student",), {"needs": Needs(stages=True, views=Rotations(2), negatives=Negatives(1))})],
            "phase 'one' needs stages, views, negatives, which the method did not declare",
        ),
    ],
)
def test_phases_are_well_formed(phases: list[tuple[str, tuple[str, ...], dict[str, Any]]], message: str) -> None:
    class Phased(WithHead):
        def phases(self) -> list[Phase]:
            return [Phase(name=name, trains=trains, terms=self.terms, **rest) for name, trains, rest in phases]

    assert messages(Phased)[0].startswith(message)


def test_a_phase_may_ask_one_network_for_no_more_than_the_method_does() -> None:
    class OneSided(WithHead):
        needs = Needs(embedding="student")
        asked = Needs(embedding="student")

        def phases(self) -> list[Phase]:
            return [Phase(name="one", trains=("student", "head"), terms=self.terms, needs=self.asked)]

    class Beyond(OneSided):
        asked = Needs(embedding="teacher")

    assert check_distiller(OneSided) == []
    assert messages(Beyond)[0].startswith("phase 'one' needs embedding, which the method did not declare")


@pytest.mark.parametrize(("lr", "milestones"), [(None, (0.5,)), (0.1, ())])
def test_a_phase_may_take_the_runs_own_rate(lr: float | None, milestones: tuple[float, ...]) -> None:
    class Phased(WithHead):
        def phases(self) -> list[Phase]:
            schedule = Schedule(epochs=1, lr=lr, milestones=milestones)
            return [Phase(name="one", trains=("student", "head"), terms=self.terms, schedule=schedule)]

    assert check_distiller(Phased) == []


def test_a_phase_is_served_what_it_needs_and_nothing_else() -> None:
    class Sparing(WithHead):
        needs = Needs(embedding=True, views=Rotations(4))
        reads_embedding = False

        def phases(self) -> list[Phase]:
            return [
                Phase(name="maps", trains=("student",), terms=self.embedding_terms),
                Phase(name="last", trains=("student",), terms=self.last_terms, needs=Needs(teacher=False)),
            ]

        def embedding_terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            assert student.embedding.shape[0] == 4 * len(batch.labels)
            return {"length": student.embedding.square().mean()}

        def last_terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            assert len(student.logits) == len(batch.labels)
            length = student.embedding.mean() if self.reads_embedding else student.logits.sum() * 0
            return {"ce": F.cross_entropy(student.logits, batch.labels) + length}

    class Greedy(Sparing):
        reads_embedding = True

    assert check_distiller(Sparing) == []
    (fault,) = check_distiller(Greedy)
    assert fault.message.startswith("phase 'last' raises PluginError: embedding of the student were read")


class Peers(Plain):
    """Trains a network in the teacher's place, first alone and then beside the student."""

    needs = Needs(own_teacher=True)
    trained: tuple[str, ...] = ("teacher",)
    last: tuple[str, ...] = ("student", "teacher")

    def phases(self) -> Sequence[Phase]:
        return (
            Phase(name="alone", trains=self.trained, terms=self.alone, runs_student=False),
            Phase(name="both", trains=self.last, terms=self.terms),
        )

    def alone(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        return {"teacher": F.cross_entropy(teacher.logits, batch.labels)}

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        return {"mutual": F.mse_loss(student.logits, teacher.logits)}


def test_a_method_may_train_the_teacher_if_it_is_its_own() -> None:
    class Borrowed(Peers):
        needs = Needs()

    class Detaching(Peers):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            return {"mutual": F.mse_loss(student.logits, teacher.logits.detach())}

    class Leaking(Peers):
        last = ("student",)

    assert check_distiller(Peers) == []
    assert messages(Borrowed) == ["phase 'alone' trains the teacher, which others may share"]
    assert messages(Detaching) == ["no gradient of phase 'both' reaches the teacher that it trains"]
    assert messages(Leaking) == ["a gradient of phase 'both' reaches the teacher's logits"]


def test_a_phase_of_an_own_teacher_cannot_ask_for_another() -> None:
    class Astray(Peers):
        def phases(self) -> Sequence[Phase]:
            return (Phase(name="both", trains=self.last, terms=self.terms, needs=Needs()),)

    assert messages(Astray) == ["phase 'both' needs a teacher of somebody else's"]


def test_tails_and_classifier_are_served_where_they_are_declared() -> None:
    class Branched(Plain):
        needs = Needs(stages=True, embedding=True, tails=True, classifier=True)

        def __init__(self, config: PlainConfig, pair: Pair) -> None:
            super().__init__(config, pair)
            teacher = pair.require_teacher(self.name)
            self.tails = nn.ModuleList(pair.student.make_tail(stage) for stage in range(len(pair.student.stages)))
            self.joins = nn.ModuleList(nn.Linear(int(tail.width), teacher.embedding_width) for tail in self.tails)  # type: ignore[arg-type]  # a tail's width is a number
            self.classifier = teacher.copy_classifier()

        def phases(self) -> Sequence[Phase]:
            return (Phase(name="student", trains=("student", "tails", "joins"), terms=self.terms),)

        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            pairs = zip(self.tails, self.joins, student.stages, strict=True)
            answers = [self.classifier(join(tail(maps))) for tail, join, maps in pairs]
            return {"ce": torch.stack([F.cross_entropy(logits, batch.labels) for logits in answers]).mean()}

    class Undeclared(Branched):
        needs = Needs(stages=True, embedding=True, tails=True)

    assert check_distiller(Branched) == []
    (fault,) = check_distiller(Undeclared)
    assert "the classifier of made_up_teacher was asked for but not declared" in fault.message
    assert "declare Needs(classifier=True)" in fault.fix


def test_terms_that_overflow_in_half_precision_are_found() -> None:
    class Large(Plain):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            return {"mse": 1e4 * (student.logits - teacher.logits.detach()).square().mean()}

    class Narrow(Plain):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            return {"mse": F.mse_loss(student.logits, teacher.logits.detach()).half()}

    (message,) = messages(Large)
    assert message.endswith("where the networks answer in float16 and nobody widens them: 'mse' is inf")
    assert [one.rpartition(": ")[2] for one in messages(Narrow)] == ["'mse' is float16", "'mse' is float16"]


def test_a_method_whose_layers_refuse_half_precision_is_not_blamed_for_what_the_core_never_does() -> None:
    assert check_distiller(WithHead) == []
    with pytest.raises(RuntimeError, match="dtype"):
        nn.Linear(2, 2)(torch.zeros(1, 2, dtype=torch.float16))


def test_a_gradient_that_is_not_finite_is_found_though_the_term_is() -> None:
    class Cornered(Plain):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            gap = (student.logits - student.logits.detach()).abs().sum()
            return {"ce": F.cross_entropy(student.logits, batch.labels), "root": gap.sqrt()}

    assert messages(Cornered) == ["a gradient of phase 'student' is not finite"]


def test_a_term_that_claims_to_vanish_between_equals_is_held_to_it() -> None:
    class Honest(Plain):
        zero_when_equal = ("mse",)

    class Boasting(Honest):
        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            return {"mse": F.mse_loss(student.logits, 0.9 * teacher.logits.detach())}

    class Misspelt(Plain):
        zero_when_equal = ("mes",)

    assert check_distiller(Honest) == []
    (message, *_) = messages(Boasting)
    assert message.startswith("'mse' is ")
    assert message.endswith("where student and teacher answer alike")
    assert messages(Misspelt) == ["zero_when_equal names mes: no such term"]


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("stage1 - stage2", "plan holds 'stage1 - stage2'"),
        (Link(student="", teacher="stage2"), "plan holds Link(student='', teacher='stage2'"),
        (Link(student="a", teacher="b", parameters=-1), "a link of plan adds -1 parameters"),
        (Link(student="a", teacher="b", parameters=1.5), "a link of plan adds 1.5 parameters"),  # type: ignore[arg-type]  # meant
    ],
)
def test_a_plan_names_places_and_counts_parameters(link: Any, message: str) -> None:
    class Planned(Plain):
        def plan(self) -> Sequence[Link]:
            return [Link(student="logits 10", teacher="logits 10"), link]

    assert messages(Planned)[0].startswith(message)


@pytest.mark.parametrize("shared_crop", [False, True])
def test_views_of_one_crop_are_views_like_others(shared_crop: bool) -> None:
    class Turning(Plain):
        needs = Needs(views=Rotations(4, shared_crop=shared_crop))

        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            assert student.logits.shape[0] == teacher.logits.shape[0] == 4 * len(batch.labels)
            return {"mse": F.mse_loss(student.logits, teacher.logits.detach())}

    assert check_distiller(Turning) == []


def test_a_phase_that_trains_nothing_is_found() -> None:
    class Idle(Plain):
        def __init__(self, config: PlainConfig, pair: Pair) -> None:
            super().__init__(config, pair)
            self.scale = nn.ReLU()

        def phases(self) -> Sequence[Phase]:
            first = Phase(name="first", trains=("scale",), terms=self.terms)
            return (first, Phase(name="student", trains=("student",), terms=self.terms))

    assert messages(Idle) == ["phase 'first' trains nothing: its modules have no parameters"]


def test_views_that_are_not_views_are_found() -> None:
    class Mirrored(Views):
        def transform(self, images: Tensor, view: int) -> Tensor:
            return images.flip(-1)

    class Halved(Views):
        def transform(self, images: Tensor, view: int) -> Tensor:
            return images[..., :4] if view else images

    class WithMirror(Plain):
        needs = Needs(views=Mirrored())

    class WithHalves(Plain):
        needs = Needs(views=Halved(2))

    assert messages(WithMirror) == ["view 0 of Mirrored is not the image itself"]
    assert messages(WithHalves) == ["views of Halved change an image's shape or kind"]


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


def test_state_is_compared_bit_for_bit() -> None:
    class Rounding(Plain):
        def __init__(self, config: PlainConfig, pair: Pair) -> None:
            super().__init__(config, pair)
            self.mean: Tensor
            self.register_buffer("mean", torch.zeros(pair.num_classes))

        def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
            self.latest: Tensor = student.logits.detach().mean(0)
            return {"mse": F.mse_loss(student.logits, teacher.logits.detach() - self.mean)}

        def after_step(self, batch: Batch) -> None:
            self.mean.add_(self.latest)

        def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:
            return super().load_state_dict({"mean": state["mean"] * (1 + 2e-7)}, strict, assign)

    assert "'mean' differs after its state was saved and loaded" in messages(Rounding)


def test_state_that_is_no_tensor_is_found() -> None:
    class Counting(Plain):
        def get_extra_state(self) -> int:
            return 3

        def set_extra_state(self, state: int) -> None: ...

    assert messages(Counting) == ["_extra_state of its state is no tensor"]


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


class Whole(ExtendedStudent):
    """A student and a head behind it."""

    def __init__(self, student: nn.Module, head: nn.Module, **model_args: Any) -> None:
        super().__init__(student, {"a head": head}, architecture="whole", model_args=model_args)
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.head(self.student(images))
        return answer


class WithWhole(WithHead):
    exports_extras = True

    def export(self, student: nn.Module) -> nn.Module:
        return Whole(student, self.head, width=3)


def test_a_method_that_says_so_may_publish_its_heads() -> None:
    assert check_distiller(WithWhole) == []


def test_what_is_published_with_extras_shares_the_students_parameters_answers_and_names_itself() -> None:
    class Copying(WithWhole):
        def export(self, student: nn.Module) -> nn.Module:
            return Whole(copy.deepcopy(student), self.head)

    class Mute(WithWhole):
        def export(self, student: nn.Module) -> nn.Module:
            return Whole(student, nn.Flatten(0))

    class Silent(WithWhole):
        def export(self, student: nn.Module) -> nn.Module:
            return nn.Sequential(student, self.head)

    class Unplain(WithWhole):
        def export(self, student: nn.Module) -> nn.Module:
            return Whole(student, self.head, body=self.head)

    class Nothing(WithWhole):
        def export(self, student: nn.Module) -> Any:
            return None

    assert messages(Copying) == ["export does not share the student's parameters"]
    assert messages(Mute)[0] == "what export returns answers (20,) to 2 images of 10 classes"
    assert messages(Silent) == ["what export returns does not say what was added"]
    assert messages(Unplain) == ["architecture or model_args of what export returns are not plain values"]
    assert messages(Nothing) == ["export does not return a module"]


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
