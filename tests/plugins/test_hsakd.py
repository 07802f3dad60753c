"""HSAKD: its terms against a slow loop, where gradients go in each phase, what belongs to the teacher alone."""

from typing import Any

import pytest
import torch
from made_up import batch, nothing, pair
from made_up_branches import CLASSES, answer, gradients, looked_at, network, real, without_tails
from torch import Tensor
from torch.nn import functional as F

from compressor.distiller import ModelOutput, Needs, NetworkSpec
from compressor.errors import UnsupportedPair
from compressor_plugins._branches import VIEWS
from compressor_plugins.hsakd import HSAKD, HSAKDConfig

LABELS = torch.tensor([2, 0])
ROWS = 4 * len(LABELS)
LARGE = (4, 6, 7, 8)
WEIGHTS = ("ce_weight", "kd_weight", "branch_weight")


def hsakd(student: NetworkSpec | None = None, teacher: NetworkSpec | None = None, **settings: Any) -> HSAKD:
    torch.manual_seed(0)
    both = pair(student or network(), teacher or network(LARGE))
    return HSAKD(HSAKDConfig(**settings), both).double()


def answers() -> tuple[ModelOutput, ModelOutput]:
    return answer(ROWS, seed=1), answer(ROWS, seed=20, channels=LARGE, owner="teacher")


def terms(method: HSAKD, student: ModelOutput, teacher: ModelOutput) -> dict[str, Tensor]:
    return method.terms(batch(LABELS, views=4), student, teacher)


def kl(teacher: Tensor, student: Tensor) -> float:
    """Add up p (ln p - ln q) row by row at temperature 3."""
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    rows = [sum(float(a * (a.log() - b.log())) for a, b in zip(*row, strict=True)) for row in zip(p, q, strict=True)]
    return 9 * sum(rows) / len(rows)


def test_every_term_equals_a_slow_loop() -> None:
    method, (student, teacher) = hsakd(ce_weight=0.5, kd_weight=2.0, branch_weight=3.0), answers()
    got = {name: value.item() for name, value in terms(method, student, teacher).items()}
    assert [(match.student, match.teacher) for match in method.matches] == [(1, 1), (2, 3)]
    plain = student.logits.detach()[::4].log_softmax(1)
    assert got["ce"] == pytest.approx(-0.5 * (plain[0, 2] + plain[1, 0]).item() / 2)
    assert got["kd"] == pytest.approx(2 * kl(teacher.logits.detach(), student.logits.detach()))
    wanted = 0.0
    for branch, stage, other in ((0, 1, 1), (1, 2, 3)):  # the teacher's branches stand at 1, 2 and 3
        ours = method.student_branches.heads[branch](method.student_branches.tails[branch](student.stages[stage]))
        behind = method.teacher_branches.stages.index(other)
        theirs = method.teacher_branches.heads[behind](method.teacher_branches.tails[behind](teacher.stages[other]))
        wanted += kl(theirs.detach(), ours.detach())
    assert got["branch"] == pytest.approx(3 * wanted)


def test_a_student_like_its_teacher_has_only_the_labels_to_learn_from() -> None:
    method = hsakd(network(), network())
    method.student_branches.load_state_dict(method.teacher_branches.state_dict())
    shared = answer(ROWS, seed=1)
    got = terms(method, shared, shared)
    assert got["ce"].item() > 0
    assert all(abs(got[name].item()) < 1e-12 for name in ("kd", "branch"))


def test_branches_teach_the_students_trunk_and_nothing_of_the_teacher() -> None:
    method, (student, teacher) = hsakd(), answers()
    terms(method, student, teacher)["branch"].backward()
    for stage in student.stages[1:]:
        assert stage.grad is not None
        assert stage.grad.any()
    assert student.stages[0].grad is None
    assert student.logits.grad is None
    assert all(gradients(method.student_branches))
    assert not any(gradients(method.teacher_branches))
    assert all(stage.grad is None for stage in teacher.stages)


def test_turned_images_are_taught_by_the_teacher_and_not_by_the_labels() -> None:
    method, (student, teacher) = hsakd(), answers()
    ce = terms(method, student, teacher)["ce"]
    [of_labels] = torch.autograd.grad(ce, [student.logits])
    [of_teacher] = torch.autograd.grad(terms(method, student, teacher)["kd"], [student.logits])
    assert of_labels[::4].all()
    assert not of_labels.view(-1, 4, CLASSES)[:, 1:].any()
    assert of_teacher.any(1).all()


def test_corrections_of_the_lesson_reach_the_turned_images() -> None:
    method, (student, teacher) = hsakd(kd_target="ps"), answers()
    got = terms(method, student, teacher)["kd"].item()
    corrected = teacher.logits.detach().clone()
    for row in range(ROWS):
        label, top = int(LABELS[row // 4]), int(corrected[row].argmax())
        corrected[row, label], corrected[row, top] = corrected[row, top].clone(), corrected[row, label].clone()
    assert got == pytest.approx(kl(corrected, student.logits.detach()))


def test_frozen_teacher_gives_its_maps_and_gets_no_gradient() -> None:
    method, (_, teacher) = hsakd(), answers()
    [phase, last] = method.phases()
    assert (phase.name, phase.trains, phase.runs_student, phase.artefact) == (
        "branches",
        ("teacher_branches",),
        False,
        True,
    )
    assert (last.name, last.trains) == ("student", ("student", "student_branches"))
    [loss] = phase.terms(batch(LABELS, views=4), nothing("student"), teacher).values()
    joint = torch.tensor([8, 9, 10, 11, 0, 1, 2, 3])
    wanted = sum(F.cross_entropy(one, joint).item() for one in method.teacher_branches(teacher.stages))
    assert loss.item() == pytest.approx(wanted)
    loss.backward()
    assert all(gradients(method.teacher_branches))
    assert all(stage.grad is None for stage in teacher.stages)


def test_joint_teacher_learns_from_labels_and_through_its_branches() -> None:
    method, (_, teacher) = hsakd(variant="joint"), answers()
    phase = method.phases()[0]
    assert (phase.name, phase.trains) == ("teacher", ("teacher", "teacher_branches"))
    got = phase.terms(batch(LABELS, views=4), nothing("student"), teacher)
    assert got["ce"].item() == pytest.approx(F.cross_entropy(teacher.logits[::4], LABELS).item())
    torch.stack(list(got.values())).sum().backward()
    assert all(gradients(method.teacher_branches))
    for value in (teacher.logits, *teacher.stages[1:]):
        assert value.grad is not None
        assert value.grad.any()


def test_phases_last_as_published_and_as_they_are_set() -> None:
    frozen, joint = (hsakd(variant=variant).phases()[0].schedule for variant in ("frozen", "joint"))
    assert frozen is not None
    assert joint is not None
    assert (frozen.epochs, frozen.lr, [round(100 * share) for share in frozen.milestones]) == (100, 0.05, [30, 60, 90])
    assert (joint.epochs, joint.lr, [round(240 * share) for share in joint.milestones]) == (240, 0.05, [150, 180, 210])
    settings = {"teacher_epochs": 3, "teacher_lr": 0.3, "branch_epochs": 7, "branch_lr": 0.7}
    for variant, epochs, rate in (("frozen", 7, 0.7), ("joint", 3, 0.3)):
        short = hsakd(variant=variant, **settings).phases()[0].schedule
        assert short is not None
        assert (short.epochs, short.lr) == (epochs, rate)


def test_a_teacher_of_its_own_is_needed_in_the_joint_variant_alone() -> None:
    assert HSAKD.needs_for(HSAKDConfig()) == Needs(stages=True, tails=True, views=VIEWS)
    assert HSAKD.needs_for(HSAKDConfig(variant="joint")) == Needs(
        stages=True, tails=True, views=VIEWS, own_teacher=True
    )


def test_teachers_branches_are_the_same_whoever_the_student_is() -> None:
    small, large = hsakd(network((4, 6)), network(LARGE)), hsakd(network(LARGE), network(LARGE))
    assert small.teacher_branches.stages == large.teacher_branches.stages == (1, 2, 3)
    assert len(small.matches) == 1
    assert hsakd(stages="1:3,2:1").teacher_branches.stages == (1, 3)
    assert hsakd(stages="1:3,2:3").teacher_branches.stages == (3,)


def test_stages_that_are_set_are_matched_with_the_stem_too() -> None:
    method, (student, teacher) = hsakd(stages="0:3,2:0"), answers()
    assert terms(method, student, teacher)["branch"].item() > 0
    assert [(link.student, link.teacher) for link in method.plan()] == [
        ("stage0 4x8x8", "stage3 8x1x1"),
        ("stage2 8x2x2", "stage0 4x8x8"),
    ]


def test_plan_shows_both_branches_of_a_match() -> None:
    method = hsakd()
    links = method.plan()
    assert [link.teacher for link in links] == ["stage1 6x4x4", "stage3 8x1x1"]
    tail, head = 6 * 5 + 5, 5 * 12 + 12  # behind 6 channels on either side
    assert links[0].parameters == 2 * (tail + head)
    assert links[0].adapter == "a branch each, to 4 x classes"


@pytest.mark.parametrize("names", [("cifar_resnet8", "cifar_wrn_16_1"), ("resnet10t", "cifar_vgg8")])
def test_two_real_networks_of_different_families_learn_in_both_phases(names: tuple[str, str]) -> None:
    (student, ours), (teacher, theirs) = (real(name) for name in names)
    method = HSAKD(HSAKDConfig(), pair(ours, theirs))
    with torch.no_grad():
        seen = looked_at(teacher.eval())
    for phase, shown in zip(method.phases(), (nothing("student"), looked_at(student)), strict=True):
        for module in (student, method):
            module.zero_grad()
        got = phase.terms(batch(LABELS, views=4), shown, seen)
        torch.stack(list(got.values())).sum().backward()
        assert all(value.isfinite() for value in got.values())
        for name in phase.trains:
            assert any(gradients(student if name == "student" else method.get_submodule(name))), name


def test_networks_without_stages_or_tails_are_refused_before_anything_is_trained() -> None:
    bare = NetworkSpec(name="flat", stages=(), preacts=False, embedding_width=0, num_classes=CLASSES)
    with pytest.raises(UnsupportedPair, match="hsakd needs feature maps, and flat shows none"):
        HSAKD.check(HSAKDConfig(), pair(bare, network()))
    for both in ((without_tails(), network()), (network(), without_tails())):
        with pytest.raises(UnsupportedPair, match="smooth cannot have branches"):
            HSAKD.check(HSAKDConfig(), pair(*both))
    with pytest.raises(UnsupportedPair, match="net has stages 0 to 2, not 3"):
        HSAKD.check(HSAKDConfig(stages="3:1"), pair(network(), network(LARGE)))
    HSAKD.check(HSAKDConfig(), pair(network(), network(LARGE)))


@pytest.mark.parametrize("name", ["branch_temperature", "branch_lr", "teacher_lr", "kd_temperature"])
def test_setting_that_must_be_positive_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"hsakd\.{name} must be > 0, got 0"):
        HSAKDConfig(**{name: 0})


@pytest.mark.parametrize("name", [*WEIGHTS, "branch_epochs", "teacher_epochs"])
def test_setting_that_must_not_be_negative_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"hsakd\.{name} must be >= 0, got -1"):
        HSAKDConfig(**{name: -1})


@pytest.mark.parametrize("name", ["branch_milestones", "teacher_milestones"])
def test_milestone_outside_the_phase_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"hsakd\.{name} must be in \(0, 1\), got \[0\.3, 1\.0\]"):
        HSAKDConfig(**{name: (0.3, 1.0)})


def test_stages_in_another_form_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hsakd\.stages must be student:teacher pairs"):
        HSAKDConfig(stages="1-2")
