"""CRD: the contrast against a slow loop, the memories by hand, several micro-batches and processes."""

import math
from typing import Any

import pytest
import torch
from made_up import batch, draw, leaf, network, pair
from torch import Tensor

from compressor.distiller import Batch, ModelOutput, Negatives, Pair
from compressor.errors import UnsupportedPair
from compressor_plugins.crd import CRD, CRDConfig, contrast_loss, exponential_scores

IMAGES, COUNT = 4, 5


def crd(train_size: int = 12, **settings: Any) -> CRD:
    torch.manual_seed(0)
    config = CRDConfig(**{"feature_dim": 3, "negatives": COUNT, **settings})
    return CRD(config, pair(network(width=6), network(width=7), train_size=train_size)).double()


def some(step: int = 0, index: Any = (7, 2, 5, 0), **more: Any) -> Batch:
    contrast = torch.randint(0, 12, (len(index), 1 + COUNT), generator=torch.Generator().manual_seed(step))
    positions = torch.tensor(index)
    contrast[:, 0] = positions
    more = {"index_or_none": positions, "contrast_or_none": contrast, **more}
    return batch(positions % 3, step=step, **more)


def answers(seed: int = 0, images: int = IMAGES) -> tuple[ModelOutput, ModelOutput]:
    student = ModelOutput(logits=leaf(images, 3, seed=seed), embedding=leaf(images, 6, seed=seed + 1))
    return student, ModelOutput(logits=leaf(images, 3, seed=seed + 2), embedding=leaf(images, 7, seed=seed + 3))


def slow(method: CRD, given: Batch, student: Tensor, teacher: Tensor) -> float:
    """Equations of the paper written out, one sample and one noise sample at a time."""
    size, temperature = len(method.student_memory), method.config.temperature
    total = 0.0
    for embed, other, memory in (
        (method.embed_student, student, method.teacher_memory),
        (method.embed_teacher, teacher, method.student_memory),
    ):
        anchors = [row / row.norm() for row in embed.linear(other).detach()]
        scores = [
            [math.exp(float(anchor @ memory[column]) / temperature) for column in columns]
            for anchor, columns in zip(anchors, given.contrast.tolist(), strict=True)
        ]
        constant = sum(map(sum, scores)) / (len(scores) * len(scores[0])) * size
        noise = COUNT / size
        for positive, *negatives in scores:
            total -= math.log(positive / constant / (positive / constant + noise + 1e-7))
            total -= sum(math.log(noise / (negative / constant + noise + 1e-7)) for negative in negatives)
    return total / IMAGES


def test_contrast_equals_a_slow_loop() -> None:
    method, given, (student, teacher) = crd(), some(), answers()
    expected = slow(method, given, student.embedding, teacher.embedding)
    assert method.terms(given, student, teacher)["crd"].item() == pytest.approx(0.8 * expected, rel=1e-9)


def test_loss_equals_a_value_worked_by_hand() -> None:
    # n = 4 and K = 2 give noise 1/2: h(1/2) = 1/2 for the positive, 1 - h(1) = 1/3 and 1 - h(1/2) = 1/2.
    scores = torch.tensor([[0.5, 1.0, 0.5]], dtype=torch.float64)
    assert contrast_loss(scores, 4).item() == pytest.approx(-math.log(1 / 2 * 1 / 3 * 1 / 2), rel=1e-6)


def test_scores_are_the_same_from_one_product_and_from_gathered_rows() -> None:
    anchors, memory = draw(3, 4), draw(200, 4, seed=1)
    many = torch.randint(0, 200, (3, 50), generator=torch.Generator().manual_seed(2))  # 200 <= 16 * 50: one product
    few = many[:, :2]  # 200 > 16 * 2: gathered
    whole = exponential_scores(anchors, memory, many, 0.5)
    assert torch.allclose(exponential_scores(anchors, memory, few, 0.5), whole[:, :2], rtol=1e-12)


def test_constants_are_set_by_the_first_batch_and_never_again() -> None:
    method = crd()
    assert method.student_constant.item() == method.teacher_constant.item() == -1
    method.terms(some(), *answers())
    first = (method.student_constant.item(), method.teacher_constant.item())
    assert min(first) > 0
    method.terms(some(1), *answers(9))
    assert (method.student_constant.item(), method.teacher_constant.item()) == first


def test_terms_read_the_memories_and_only_the_step_after_writes_them() -> None:
    method, given = crd(momentum=0.25), some()
    before = method.student_memory.clone()
    student, teacher = answers()
    method.terms(given, student, teacher)
    assert torch.equal(method.student_memory, before)
    method.after_step(given)
    for row, position in enumerate(given.index.tolist()):
        new = method.embed_student.linear(student.embedding[row]).detach()
        mixed = 0.25 * before[position] + 0.75 * new / new.norm()
        assert torch.allclose(method.student_memory[position], mixed / mixed.norm())
    others = [position for position in range(12) if position not in given.index.tolist()]
    assert torch.equal(method.student_memory[others], before[others])


def test_micro_batches_write_what_each_of_them_saw() -> None:
    parts = [some(index=(7, 2)), some(index=(5, 0))]
    given = [answers(0, 2), answers(9, 2)]
    together, apart = crd(), crd()
    for part, (student, teacher) in zip(parts, given, strict=True):
        together.terms(part, student, teacher)
    for part in parts:
        together.after_step(part)
    for part, (student, teacher) in zip(parts, given, strict=True):
        apart.terms(part, student, teacher)
        apart.after_step(part)
    assert torch.equal(together.student_memory, apart.student_memory)
    assert torch.equal(together.teacher_memory, apart.teacher_memory)


def test_what_a_step_that_never_ended_saw_is_forgotten() -> None:
    method, fresh = crd(), crd()
    method.terms(some(0), *answers())  # and then the step failed
    fresh.terms(some(0), *answers())
    fresh._pending.clear()
    for one in (method, fresh):
        one.terms(some(1, index=(1, 3, 4, 6)), *answers(9))
        one.after_step(some(1, index=(1, 3, 4, 6)))
    assert torch.equal(method.student_memory, fresh.student_memory)


def test_every_process_writes_the_images_of_all() -> None:
    # Two processes, each with half a batch; gather gives both halves. They must end like one process with the whole.
    whole, (student, teacher) = some(), answers()
    halves = [slice(0, 2), slice(2, 4)]
    lone = crd()
    lone.terms(whole, student, teacher)
    lone.after_step(whole)
    seen: list[CRD] = []
    for own in halves:
        method = crd()

        def gather(value: Tensor, own: slice = own, method: CRD = method) -> Tensor:
            if value.shape == (1,):  # of the constants: the mean of one's own scores, which the other half shares here
                return value
            if value.dtype == torch.int64:
                return whole.index
            embedded = method.embed_student(student.embedding), method.embed_teacher(teacher.embedding)
            (full,) = [one.detach() for one in embedded if torch.equal(one[own], value)]
            return full

        part = batch(
            whole.labels[own], index_or_none=whole.index[own], contrast_or_none=whole.contrast[own], gather=gather
        )
        method.terms(
            part,
            ModelOutput(logits=student.logits[own], embedding=student.embedding[own]),
            ModelOutput(logits=teacher.logits[own], embedding=teacher.embedding[own]),
        )
        method.after_step(part)
        seen.append(method)
    for method in seen:
        assert torch.allclose(method.student_memory, lone.student_memory)
        assert torch.allclose(method.teacher_memory, lone.teacher_memory)


def test_first_memories_have_length_one_on_average() -> None:
    method = crd(2000, feature_dim=12)
    assert method.student_memory.square().sum(1).mean().item() == pytest.approx(1, abs=0.03)
    assert method.student_memory.abs().max().item() <= 0.5  # uniform within sqrt(3 / 12)
    assert not torch.equal(method.student_memory, method.teacher_memory)


def test_gradient_reaches_the_student_and_both_embeddings_and_not_the_teacher() -> None:
    method, (student, teacher) = crd(kd_weight=1.0), answers()
    terms = method.terms(some(), student, teacher)
    assert set(terms) == {"ce", "crd", "kd"}
    torch.stack(list(terms.values())).sum().backward()
    assert student.embedding.grad is not None
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert teacher.embedding.grad is None
    assert teacher.logits.grad is None


def test_needs_follow_the_settings() -> None:
    needs = CRD.needs_for(CRDConfig(negatives=7, positive="relaxed"))
    assert needs.negatives == Negatives(7, "relaxed")
    assert needs.index
    assert needs.embedding


def test_memory_grows_by_both_banks() -> None:
    sizes = [
        CRD.memory_bytes(CRDConfig(negatives=1), pair(network(width=6), network(width=7), train_size=n))
        for n in (1000, 2000)
    ]
    assert sizes[1] - sizes[0] == 2 * 1000 * 128 * 4  # two banks of float32


def test_one_class_alone_is_refused() -> None:
    lonely = Pair(
        student=network(width=6), teacher=network(width=7), num_classes=3, train_size=5, class_counts=(0, 5, 0)
    )
    with pytest.raises(UnsupportedPair, match="crd contrasts classes, and the training set has fewer than two"):
        CRD.check(CRDConfig(), lonely)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "crd.temperature must be > 0, got 0.0"),
        ({"kd_temperature": math.nan}, "crd.kd_temperature must be > 0, got nan"),
        ({"crd_weight": -1.0}, "crd.crd_weight must be >= 0, got -1.0"),
        ({"negatives": 0}, "crd.negatives must be >= 1, got 0"),
        ({"momentum": 1.0}, r"crd.momentum must be in \[0, 1\), got 1.0"),
    ],
)
def test_settings_outside_their_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CRDConfig(**settings)
