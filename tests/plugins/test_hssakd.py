"""HSSAKD online: two networks that learn from each other, symmetrically, each from answers that stay as they are."""

from typing import Any

import pytest
import torch
from made_up import batch, pair
from made_up_branches import CLASSES, answer, gradients, looked_at, network, real, without_tails
from torch import Tensor
from torch.nn import functional as F

from compressor.distiller import ModelOutput, NetworkSpec
from compressor.errors import UnsupportedPair
from compressor_plugins.hssakd import HSSAKD, HSSAKDConfig

LABELS = torch.tensor([2, 0])
ROWS = 4 * len(LABELS)
OTHER = (3, 5, 7)
TERMS = ("ce", "joint", "kd", "branch")


def hssakd(student: NetworkSpec | None = None, teacher: NetworkSpec | None = None, **settings: Any) -> HSSAKD:
    torch.manual_seed(0)
    return HSSAKD(HSSAKDConfig(**settings), pair(student or network(), teacher or network(OTHER))).double()


def answers() -> tuple[ModelOutput, ModelOutput]:
    return answer(ROWS, seed=1), answer(ROWS, seed=20, channels=OTHER, owner="teacher")


def terms(method: HSSAKD, student: ModelOutput, teacher: ModelOutput) -> dict[str, Tensor]:
    return method.terms(batch(LABELS, views=4), student, teacher)


def leaves(output: ModelOutput) -> list[Tensor]:
    return [output.logits, *output.stages[1:]]  # nobody looks at the stem


def reached(values: list[Tensor]) -> bool:
    return any(value.grad is not None and bool(value.grad.any()) for value in values)


def test_every_term_of_both_equals_the_formula() -> None:
    weights = {"ce_weight": 0.5, "joint_weight": 2.0, "kd_weight": 3.0, "branch_weight": 4.0}
    method, (student, teacher) = hssakd(**weights, branch_temperature=2.0), answers()
    got = {name: value.item() for name, value in terms(method, student, teacher).items()}
    assert list(got) == [*TERMS, *(f"peer_{name}" for name in TERMS)]
    with torch.no_grad():
        first = (student.logits, method.student_branches(student.stages))
        second = (teacher.logits, method.teacher_branches(teacher.stages))
        joint = torch.tensor([8, 9, 10, 11, 0, 1, 2, 3])

        def kl(one: Tensor, other: Tensor, temperature: float) -> float:
            soft = F.kl_div((one / temperature).log_softmax(1), (other / temperature).softmax(1), reduction="batchmean")
            return temperature**2 * soft.item()

        for prefix, (logits, own), (others_logits, others) in (("", first, second), ("peer_", second, first)):
            assert got[f"{prefix}ce"] == pytest.approx(0.5 * F.cross_entropy(logits[::4], LABELS).item())
            assert got[f"{prefix}joint"] == pytest.approx(2 * sum(F.cross_entropy(one, joint).item() for one in own))
            assert got[f"{prefix}kd"] == pytest.approx(3 * kl(logits, others_logits, 3.0))
            between = sum(kl(one, other, 2.0) for one, other in zip(own, others, strict=True))
            assert got[f"{prefix}branch"] == pytest.approx(4 * between)


def test_peers_that_answer_alike_have_only_the_labels_to_learn_from_and_equal_gradients() -> None:
    method = hssakd(network(), network())
    method.teacher_branches.load_state_dict(method.student_branches.state_dict())
    student, teacher = answer(ROWS, seed=1), answer(ROWS, seed=1)
    got = terms(method, student, teacher)
    for name in ("kd", "branch", "peer_kd", "peer_branch"):
        assert got[name].item() == pytest.approx(0, abs=1e-12)
    torch.stack(list(got.values())).sum().backward()
    for ours, theirs in zip(leaves(student), leaves(teacher), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-12, atol=1e-15)
    for one, other in zip(method.student_branches.parameters(), method.teacher_branches.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("prefix", ["", "peer_"])
def test_what_one_learns_is_no_lesson_for_the_other(prefix: str) -> None:
    method, (student, teacher) = hssakd(), answers()
    got = terms(method, student, teacher)
    torch.stack([got[f"{prefix}{name}"] for name in TERMS]).sum().backward()
    sides = [
        reached([*leaves(student), *method.student_branches.parameters()]),
        reached([*leaves(teacher), *method.teacher_branches.parameters()]),
    ]
    assert sides == ([False, True] if prefix else [True, False])


def test_swapping_the_peers_swaps_their_gradients() -> None:
    method, (student, teacher) = hssakd(), answers()
    swapped = hssakd(network(OTHER), network())
    swapped.student_branches.load_state_dict(method.teacher_branches.state_dict())
    swapped.teacher_branches.load_state_dict(method.student_branches.state_dict())
    torch.stack(list(terms(method, student, teacher).values())).sum().backward()
    other_student, other_teacher = answer(ROWS, seed=20, channels=OTHER), answer(ROWS, seed=1)
    torch.stack(list(terms(swapped, other_student, other_teacher).values())).sum().backward()
    for one, other in ((student, other_teacher), (teacher, other_student)):
        for value, same in zip(leaves(one), leaves(other), strict=True):
            assert value.grad is not None
            assert same.grad is not None
            assert torch.allclose(value.grad, same.grad, rtol=1e-12, atol=1e-15)


def test_both_networks_and_their_branches_learn_in_one_phase() -> None:
    [phase] = hssakd().phases()
    assert phase.trains == ("student", "teacher", "student_branches", "teacher_branches")
    assert (phase.artefact, phase.runs_student, phase.schedule) == (False, True, None)
    assert HSSAKD.needs.own_teacher


def test_two_real_networks_of_different_families_learn_together() -> None:
    (student, ours), (teacher, theirs) = real("cifar_resnet8"), real("cifar_wrn_16_1")
    method = HSSAKD(HSSAKDConfig(), pair(ours, theirs))
    for module in (student, teacher):
        module.train().zero_grad()
    got = terms(method, looked_at(student), looked_at(teacher))
    torch.stack(list(got.values())).sum().backward()
    assert all(value.isfinite() for value in got.values())
    for module in (student, teacher, method.student_branches, method.teacher_branches):
        assert all(gradients(module)), type(module)


def test_plan_matches_as_many_stages_as_the_smaller_network_has() -> None:
    method = hssakd(network((4, 6)), network(OTHER))
    assert [(link.student, link.teacher) for link in method.plan()] == [("stage1 6x4x4", "stage2 7x2x2")]
    assert method.teacher_branches.stages == (2,)


def test_corrections_of_the_lesson_reach_both() -> None:
    noted: list[str] = []
    method, (student, teacher) = hssakd(kd_target="ps"), answers()
    with_notes = batch(LABELS, views=4, note=lambda name, value: noted.append(name))
    got = method.terms(with_notes, student, teacher)
    plain = terms(hssakd(), student, teacher)
    assert noted == ["kd_corrected"] * 2
    assert got["kd"].item() != pytest.approx(plain["kd"].item())
    assert got["peer_kd"].item() != pytest.approx(plain["peer_kd"].item())


def test_networks_without_stages_or_tails_are_refused() -> None:
    bare = NetworkSpec(name="flat", stages=(), preacts=False, embedding_width=0, num_classes=CLASSES)
    with pytest.raises(UnsupportedPair, match="hssakd needs feature maps, and flat shows none"):
        HSSAKD.check(HSSAKDConfig(), pair(network(), bare))
    with pytest.raises(UnsupportedPair, match="smooth cannot have branches"):
        HSSAKD.check(HSSAKDConfig(), pair(without_tails(), network(OTHER)))


@pytest.mark.parametrize("name", ["ce_weight", "joint_weight", "kd_weight", "branch_weight"])
def test_weight_below_zero_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"hssakd\.{name} must be >= 0, got -1"):
        HSSAKDConfig(**{name: -1})


def test_temperature_of_zero_and_a_stage_named_twice_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hssakd\.branch_temperature must be > 0, got 0"):
        HSSAKDConfig(branch_temperature=0)
    with pytest.raises(ValueError, match=r"hssakd\.stages names a stage of the teacher twice: '1:2,2:2'"):
        HSSAKDConfig(stages="1:2,2:2")
