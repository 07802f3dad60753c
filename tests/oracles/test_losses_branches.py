"""HSAKD's losses and gradients against numbers of the official implementation, in float64.

The official numbers begin at the branches' joint logits. So each branch here hands its map through: a map of one place
whose channels are those logits, pooled, and a linear layer that is the identity.
"""

import pytest
import torch
from oracle_io import Case, Oracle, close, oracle_folder
from torch import Tensor, nn

from compressor.distiller import Batch, ModelOutput, NetworkSpec, Pair, StageSpec
from compressor_plugins._branches import VIEWS, joint_labels
from compressor_plugins.hsakd import HSAKD, HSAKDConfig

ORACLE = Oracle(oracle_folder("losses"))
CASES = ORACLE.cases("hsakd") if "hsakd" in ORACLE.methods() else []


def of_kind(given: str) -> list[str]:
    return [name for name in CASES if given in ORACLE.load("hsakd", name).inp]


class Through(nn.Module):
    """A tail that pools and nothing else."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


def network(branches: int, classes: int) -> NetworkSpec:
    joint = VIEWS.count * classes
    stages = tuple(
        StageSpec(name=f"stage{number}", channels=joint, height=1, width=1) for number in range(branches + 1)
    )
    return NetworkSpec(
        name="given",
        stages=stages,
        preacts=False,
        embedding_width=0,
        num_classes=classes,
        tail_maker=lambda stage: Through(joint),
    )


def method(branches: int, classes: int, **settings: float) -> HSAKD:
    both = network(branches, classes)
    pair = Pair(student=both, teacher=both, num_classes=classes, train_size=classes, class_counts=(1,) * classes)
    made = HSAKD(HSAKDConfig(**settings), pair).double()
    for head in (*made.student_branches.heads, *made.teacher_branches.heads):
        nn.init.eye_(head.weight)
    return made


def answer(logits: Tensor, branches: list[Tensor]) -> ModelOutput:
    stem = torch.zeros_like(branches[0])
    return ModelOutput(logits=logits, stages=tuple(one[:, :, None, None] for one in (stem, *branches)))


def leaves(case: Case, *names: str) -> dict[str, Tensor]:
    return {name: case.inp[name].clone().requires_grad_() for name in names}


def batch(labels: Tensor) -> Batch:
    return Batch(labels=labels, views=VIEWS.count, epoch=0, step=0, progress=0.0)


@pytest.mark.parametrize("name", of_kind("logits_s"))
def test_student_equals_the_official_one(name: str) -> None:
    case = ORACLE.load("hsakd", name)
    numbers = range(case.hyper["branches"])
    given = leaves(case, "logits_s", *(f"ss_s{number}" for number in numbers))
    temperature = case.hyper["T"]
    made = method(
        len(numbers), case.inp["logits_s"].shape[1], kd_temperature=temperature, branch_temperature=temperature
    )
    terms = made.terms(
        batch(case.inp["target"]),
        answer(given["logits_s"], [given[f"ss_s{number}"] for number in numbers]),
        answer(case.inp["logits_t"], [case.inp[f"ss_t{number}"] for number in numbers]),
    )
    loss = torch.stack(list(terms.values())).sum()
    assert close(terms["ce"].detach(), case.out["loss_cls"], rtol=1e-9)
    assert close((terms["kd"] + terms["branch"]).detach(), case.out["loss_div"], rtol=1e-9)
    assert close(loss.detach(), case.loss, rtol=1e-9)
    loss.backward()
    for key, value in given.items():
        assert value.grad is not None
        assert close(value.grad, case.grad[key]), key


@pytest.mark.parametrize("name", of_kind("ss0"))
def test_teacher_equals_the_official_one(name: str) -> None:
    case = ORACLE.load("hsakd", name)
    numbers = range(case.hyper["branches"])
    given = leaves(case, "logits", *(f"ss{number}" for number in numbers))
    made = method(len(numbers), case.inp["logits"].shape[1])
    shown = answer(given["logits"], [given[f"ss{number}"] for number in numbers])
    terms = made.teacher_terms(batch(case.inp["target"]), ModelOutput(owner="student"), shown)
    loss = torch.stack(list(terms.values())).sum()
    assert close(loss.detach(), case.loss, rtol=1e-9)
    loss.backward()
    for key, value in given.items():
        assert value.grad is not None
        assert close(value.grad, case.grad[key]), key


@pytest.mark.parametrize("name", CASES)
def test_joint_labels_and_turns_equal_the_official_ones(name: str) -> None:
    case = ORACLE.load("hsakd", name)
    assert torch.equal(joint_labels(case.inp["target"], VIEWS.count), case.out["labels"])
    if "rotated" in case.out:
        views = [VIEWS.transform(case.inp["images"], view) for view in range(VIEWS.count)]
        assert torch.equal(torch.stack(views, dim=1).flatten(0, 1), case.out["rotated"])


def test_the_folder_has_the_cases_that_are_compared() -> None:
    if not CASES:
        pytest.skip(f"no hsakd at {ORACLE.folder}")
    assert sorted([*of_kind("logits_s"), *of_kind("ss0")]) == sorted(CASES)
