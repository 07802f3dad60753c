"""The contract's own objects: they serve what was declared, in the promised order, and refuse the rest."""

import pytest
import torch
from torch import Tensor, nn

from compressor.distiller import (
    Batch,
    Distiller,
    ModelOutput,
    Needs,
    Negatives,
    NetworkSpec,
    Pair,
    Phase,
    Rotations,
    Terms,
    Views,
    Whose,
)
from compressor.errors import PluginError, UnsupportedPair


def output(rows: int = 3, *, seed: int = 0) -> ModelOutput:
    generator = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> Tensor:
        return torch.randn(rows, *shape, generator=generator)

    return ModelOutput(
        logits=some(5), stages=(some(2, 4, 4), some(3, 2, 2)), preacts=(some(2, 4, 4), some(3, 2, 2)), embedding=some(6)
    )


def test_rotations_are_counter_clockwise_quarter_turns() -> None:
    image = torch.tensor([[1, 2], [3, 4]]).view(1, 1, 2, 2)
    turned = [Rotations().transform(image, view)[0, 0].tolist() for view in range(4)]
    assert turned == [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]


def test_first_view_of_every_family_is_the_image_itself() -> None:
    image = torch.zeros(1, 3, 2, 2)
    assert Views().transform(image, 0) is image
    assert Rotations().transform(image, 0) is image


@pytest.mark.parametrize("count", [0, 5])
def test_rotations_are_one_to_four(count: int) -> None:
    with pytest.raises(ValueError, match=f"Rotations.count must be 1 to 4, got {count}"):
        Rotations(count)


def test_view_that_does_not_exist_is_refused() -> None:
    with pytest.raises(IndexError, match=r"Views has 1 view\(s\), not one numbered 2"):
        Views().transform(torch.zeros(1, 3, 2, 2), 2)


def test_negatives_are_at_least_one() -> None:
    with pytest.raises(ValueError, match=r"negatives\.count must be >= 1, got 0"):
        Negatives(0)


@pytest.mark.parametrize("part", ["logits", "stages", "preacts", "embedding"])
def test_part_that_was_not_served_names_itself_and_the_network(part: str) -> None:
    with pytest.raises(PluginError, match=f"{part} of the teacher were read but not served") as caught:
        getattr(ModelOutput(owner="teacher"), part)
    assert f"Needs({part}=True)" in str(caught.value.hint)


@pytest.mark.parametrize("part", ["stages", "preacts", "embedding"])
def test_needs_of_one_network_are_not_those_of_the_other(part: str) -> None:
    def needs(whose: Whose) -> Needs:
        return Needs(**{part: whose}, index=True)  # type: ignore[arg-type]  # one of the three parts

    assert needs("student").of("student") == needs("teacher").of("teacher") == needs(True)
    assert needs("student").of("teacher") == needs("teacher").of("student") == needs(False)
    assert needs(True).of("student") == needs(True).of("teacher") == needs(True)


def test_needs_name_a_network_that_there_is() -> None:
    with pytest.raises(ValueError, match=r"Needs\(stages=...\) is True, False, 'student' or 'teacher', got 'both'"):
        Needs(stages="both")  # type: ignore[arg-type]  # what a stranger may type
    with pytest.raises(ValueError, match=r"Needs\(embedding='teacher'\) also needs teacher=True"):
        Needs(teacher=False, embedding="teacher")


@pytest.mark.parametrize("part", ["stages", "preacts", "embedding"])
def test_only_leaves_logits_and_what_is_declared(part: str) -> None:
    whole = output()
    left = whole.only(Needs(**{part: True}))  # type: ignore[arg-type]  # the three parts are plain flags
    assert left.logits is whole.logits
    assert getattr(left, part) is getattr(whole, part)
    for other in {"stages", "preacts", "embedding"} - {part}:
        with pytest.raises(PluginError):
            getattr(left, other)


def test_interleaving_equals_a_loop_over_images_and_views() -> None:
    views = [output(seed=seed) for seed in range(4)]
    joined = ModelOutput.interleave(views)

    def slow(parts: list[Tensor]) -> Tensor:
        return torch.stack([parts[view][image] for image in range(3) for view in range(4)])

    assert torch.equal(joined.logits, slow([view.logits for view in views]))
    assert torch.equal(joined.embedding, slow([view.embedding for view in views]))
    for number in range(2):
        assert torch.equal(joined.stages[number], slow([view.stages[number] for view in views]))
        assert torch.equal(joined.preacts[number], slow([view.preacts[number] for view in views]))


def test_interleaving_one_view_changes_nothing() -> None:
    one = output()
    assert ModelOutput.interleave([one]) is one


def test_interleaving_keeps_what_was_not_served_unserved() -> None:
    joined = ModelOutput.interleave([ModelOutput(logits=torch.zeros(2, 3)) for _ in range(2)])
    assert joined.logits.shape == (4, 3)
    with pytest.raises(PluginError):
        _ = joined.embedding


def test_apply_reaches_every_tensor_once() -> None:
    calls: list[int] = []

    def doubled(value: Tensor) -> Tensor:
        calls.append(1)
        return value * 2

    whole = output()
    twice = whole.apply(doubled)
    assert len(calls) == 6
    assert torch.equal(twice.preacts[1], whole.preacts[1] * 2)
    assert torch.equal(twice.embedding, whole.embedding * 2)


def test_batch_refuses_what_was_not_declared() -> None:
    batch = Batch(labels=torch.zeros(2, dtype=torch.int64), views=1, epoch=0, step=0, progress=0.0)
    with pytest.raises(PluginError, match="index were read but not declared") as caught:
        _ = batch.index
    assert caught.value.hint == "declare Needs(index=True)"
    with pytest.raises(PluginError, match="contrast indices were read but not declared"):
        _ = batch.contrast
    rows = torch.randn(2, 3)
    assert batch.gather(rows) is rows


def test_phase_must_train_something_and_an_artefact_cannot_see_the_student() -> None:
    def terms(batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        return {}

    with pytest.raises(ValueError, match="phase 'empty' trains nothing"):
        Phase(name="empty", trains=(), terms=terms)
    with pytest.raises(ValueError, match="phase 'head': an artefact of the teacher cannot depend on the student"):
        Phase(name="head", trains=("head",), terms=terms, artefact=True)


class Smallest(Distiller[None]):
    """The least a method can be, with two modules of its own."""

    name = "smallest"
    Config = type(None)

    def __init__(self, config: None, pair: Pair) -> None:
        super().__init__(config, pair)
        self.adapter = nn.Linear(2, 2)
        self.head = nn.Linear(2, 2)

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        return {"zero": student.logits.sum() * 0}


def pair(teacher: NetworkSpec | None = None) -> Pair:
    student = NetworkSpec(name="s", stages=(), preacts=False, embedding_width=4, num_classes=2)
    return Pair(student=student, teacher=teacher, num_classes=2, train_size=10, class_counts=(5, 5))


def test_default_is_one_phase_that_trains_student_and_all_modules() -> None:
    [phase] = Smallest(None, pair()).phases()
    assert (phase.name, phase.trains, phase.runs_student, phase.artefact) == (
        "student",
        ("student", "adapter", "head"),
        True,
        False,
    )


def test_export_is_the_student_alone() -> None:
    net = nn.Linear(3, 3)
    assert Smallest(None, pair()).export(net) is net


def test_missing_teacher_is_named() -> None:
    with pytest.raises(UnsupportedPair, match="kd needs a teacher") as caught:
        pair().require_teacher("kd")
    assert "--teacher" in str(caught.value.hint)


def test_method_without_terms_cannot_be_built() -> None:
    class Without(Distiller[None]):
        name = "without"
        Config = type(None)

    with pytest.raises(TypeError, match="terms"):
        Without(None, pair())  # type: ignore[abstract]  # that is the point
