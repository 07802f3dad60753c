"""SSKD: every term against a slow loop over images and views, the selection by hand, phases and weightings."""

import math
from typing import Any

import pytest
import torch
from made_up import batch, draw, leaf, network, nothing, pair
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import ModelOutput, Rotations
from compressor.errors import UnsupportedPair
from compressor_plugins.sskd import SSKD, WEIGHTINGS, SSKDConfig, split_views, view_similarity

IMAGES, CLASSES = 5, 4
LABELS = torch.tensor([0, 3, 1, 1, 2])


def sskd(**settings: Any) -> SSKD:
    torch.manual_seed(0)
    networks = pair(network(classes=CLASSES, width=6), network(classes=CLASSES, width=7))
    return SSKD(SSKDConfig(**settings), networks).double()


def answers(images: int = IMAGES) -> tuple[ModelOutput, ModelOutput]:
    rows = 4 * images
    student = ModelOutput(logits=leaf(rows, CLASSES, seed=1), embedding=leaf(rows, 6, seed=2))
    return student, ModelOutput(logits=leaf(rows, CLASSES, seed=3), embedding=leaf(rows, 7, seed=4))


def terms(method: SSKD, student: ModelOutput, teacher: ModelOutput, labels: Tensor = LABELS) -> dict[str, Tensor]:
    return method.terms(batch(labels, views=4), student, teacher)


def softmax(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in values]
    return [power / sum(powers) for power in powers]


def kl(teacher: list[float], student: list[float], temperature: float) -> float:
    both = zip(softmax(teacher, temperature), softmax(student, temperature), strict=True)
    return temperature**2 * sum(p * math.log(p / q) for p, q in both)


def slow_similarities(head: nn.Module, embedding: Tensor) -> dict[tuple[int, int], list[float]]:
    projected = head(embedding).detach().reshape(IMAGES, 4, -1)
    return {
        (image, view): [
            float(F.cosine_similarity(projected[image, view], projected[other, 0], dim=0)) for other in range(IMAGES)
        ]
        for image in range(IMAGES)
        for view in (1, 2, 3)
    }


def slow_selection(
    scores: dict[tuple[int, int], list[float]], right: dict[tuple[int, int], int], ratio: float
) -> list[Any]:
    ranks = {row: sum(value > values[right[row]] for value in values) for row, values in scores.items()}
    wrong = sorted((row for row in ranks if ranks[row]), key=lambda row: (ranks[row], row))
    return [row for row in ranks if not ranks[row]] + wrong[: int(ratio * len(wrong))]


@pytest.mark.parametrize(("tf_ratio", "ss_ratio"), [(1.0, 0.75), (0.5, 1.0), (0.3, 0.0)])
def test_every_term_equals_a_slow_loop(tf_ratio: float, ss_ratio: float) -> None:
    method, (student, teacher) = sskd(tf_ratio=tf_ratio, ss_ratio=ss_ratio), answers()
    got = {name: value.item() for name, value in terms(method, student, teacher).items()}
    ours = student.logits.detach().reshape(IMAGES, 4, -1).tolist()
    theirs = teacher.logits.detach().reshape(IMAGES, 4, -1).tolist()
    plain = [-math.log(softmax(ours[image][0], 1)[label]) for image, label in enumerate(LABELS.tolist())]
    assert got["ce"] == pytest.approx(0.1 * sum(plain) / IMAGES)
    assert got["kd"] == pytest.approx(0.9 * sum(kl(theirs[i][0], ours[i][0], 4.0) for i in range(IMAGES)) / IMAGES)
    rows = {(image, view): theirs[image][view] for image in range(IMAGES) for view in (1, 2, 3)}
    kept = slow_selection(rows, {row: int(LABELS[row[0]]) for row in rows}, tf_ratio)
    turned = [kl(theirs[image][view], ours[image][view], 4.0) for image, view in kept]
    assert got["tf"] == pytest.approx(2.7 * sum(turned) / len(kept))
    wanted = slow_similarities(method.teacher_head, teacher.embedding)
    given = slow_similarities(method.student_head, student.embedding)
    kept = slow_selection(wanted, {row: row[0] for row in wanted}, ss_ratio)
    matched = [kl(wanted[row], given[row], 0.5) for row in kept]
    assert got["ss"] == pytest.approx(10 * sum(matched) / len(kept) if kept else 0.0, rel=1e-9)


def test_head_learns_which_image_a_turned_one_comes_from() -> None:
    method, (_, teacher) = sskd(), answers()
    head = method.phases()[0]
    (value,) = head.terms(batch(LABELS, views=4), nothing("student"), teacher).values()
    similarities = slow_similarities(method.teacher_head, teacher.embedding)
    losses = [-math.log(softmax(values, 1.0)[image]) for (image, _), values in similarities.items()]
    assert value.item() == pytest.approx(sum(losses) / len(losses))


def test_head_loss_cannot_fall_below_its_floor() -> None:
    # Perfect similarities, 1 with its own image and -1 with the one other: log(1 + e^-2) is what is left without a
    # temperature.
    method = sskd()
    method.teacher_head = nn.Identity()
    embedding = torch.tensor([[1.0, 0.0]] * 4 + [[-1.0, 0.0]] * 4, dtype=torch.float64)
    (value,) = method.head_terms(batch(LABELS[:2], views=4), nothing(), ModelOutput(embedding=embedding)).values()
    assert value.item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_views_are_fastest_and_the_first_is_the_plain_image() -> None:
    plain, turned = split_views(torch.arange(8)[:, None], 4)
    assert plain.flatten().tolist() == [0, 4]
    assert turned.flatten().tolist() == [1, 2, 3, 5, 6, 7]


def test_similarities_are_cosines_of_turned_with_plain_images_and_carry_gradient_to_both() -> None:
    embeddings = leaf(8, 3)
    similarity = view_similarity(embeddings, 4)
    assert similarity.shape == (6, 2)
    expected = F.cosine_similarity(embeddings[5], embeddings[0], dim=0)
    assert similarity[3, 0].item() == pytest.approx(expected.item())
    similarity.sum().backward()
    assert embeddings.grad is not None
    assert (embeddings.grad.abs().sum(1) > 0).all()


def test_a_student_like_its_teacher_has_only_the_labels_to_learn_from() -> None:
    networks = pair(network(classes=CLASSES, width=6), network(classes=CLASSES, width=6))
    method = SSKD(SSKDConfig(), networks).double()
    method.student_head.load_state_dict(method.teacher_head.state_dict())
    shared = ModelOutput(logits=draw(20, CLASSES), embedding=draw(20, 6))
    got = terms(method, shared, shared)
    assert got["ce"].item() > 0
    assert all(abs(got[name].item()) < 1e-12 for name in ("kd", "tf", "ss"))


def test_order_of_the_images_makes_no_difference_where_no_rank_is_tied() -> None:
    method, (student, teacher) = sskd(ss_ratio=1.0), answers()
    order = torch.tensor([3, 0, 4, 2, 1])

    def turned(answer: ModelOutput) -> ModelOutput:
        return answer.apply(lambda rows: rows.reshape(IMAGES, 4, -1)[order].flatten(0, 1))

    got, other = terms(method, student, teacher), terms(method, turned(student), turned(teacher), LABELS[order])
    for name in got:
        assert got[name].item() == pytest.approx(other[name].item(), rel=1e-12)


def test_gradient_reaches_the_student_and_its_head_and_nothing_of_the_teacher() -> None:
    method, (student, teacher) = sskd(), answers()
    torch.stack(list(terms(method, student, teacher).values())).sum().backward()
    assert student.logits.grad is not None
    assert student.embedding.grad is not None
    # Plain rows are the columns of the similarities: they get a gradient too.
    assert (student.embedding.grad.abs().sum(1) > 0).any()
    assert student.embedding.grad[::4].abs().sum() > 0
    assert all(parameter.grad is not None for parameter in method.student_head.parameters())
    assert all(parameter.grad is None for parameter in method.teacher_head.parameters())
    assert teacher.logits.grad is None
    assert teacher.embedding.grad is None


def test_a_teacher_that_is_always_wrong_and_a_share_of_zero_leave_nothing_and_no_nan() -> None:
    method, (student, _) = sskd(tf_ratio=0.0), answers()
    wrong = torch.zeros(20, CLASSES, dtype=torch.float64)
    wrong[torch.arange(20), (LABELS.repeat_interleave(4) + 1) % CLASSES] = 5
    got = terms(method, student, ModelOutput(logits=wrong, embedding=draw(20, 7)))
    assert got["tf"].item() == 0


def test_phases_are_the_teachers_head_then_the_student() -> None:
    head, student = sskd(head_epochs=7, head_lr=0.2, head_milestones=(0.3,)).phases()
    assert (head.name, head.trains, head.artefact, head.runs_student) == ("head", ("teacher_head",), True, False)
    assert head.schedule is not None
    assert (head.schedule.epochs, head.schedule.lr, head.schedule.milestones) == (7, 0.2, (0.3,))
    assert (student.name, student.trains, student.schedule) == ("student", ("student", "student_head"), None)
    assert SSKD.needs.views == Rotations(4)


def test_without_a_weight_of_the_similarities_no_head_is_trained() -> None:
    head = sskd(ss_weight=0.0).phases()[0]
    assert head.schedule is not None
    assert head.schedule.epochs == 0


def test_both_published_weightings_have_a_name_and_a_set_weight_wins() -> None:
    names = ("ce_weight", "kd_weight", "tf_weight", "ss_weight")
    cifar, imagenet = SSKDConfig(), SSKDConfig(weighting="imagenet")
    assert [cifar.weight(name) for name in names] == [0.1, 0.9, 2.7, 10.0]
    assert [imagenet.weight(name) for name in names] == [1.0, 0.9, 2.7, 10.0]
    assert SSKDConfig(weighting="imagenet", ce_weight=0.0).weight("ce_weight") == 0
    assert set(WEIGHTINGS) == {"cifar", "imagenet"}


def test_heads_have_the_keys_of_published_checkpoints() -> None:
    keys = {
        f"{head}.{layer}.{kind}"
        for head in ("teacher_head", "student_head")
        for layer in (0, 2)
        for kind in ("weight", "bias")
    }
    assert set(sskd().state_dict()) == keys


def test_a_run_without_a_teacher_is_refused() -> None:
    with pytest.raises(UnsupportedPair, match="sskd needs a teacher"):
        SSKD(SSKDConfig(), pair(network(width=6), None))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kd_temperature": 0.0}, "sskd.kd_temperature must be > 0, got 0.0"),
        ({"ss_temperature": -1.0}, "sskd.ss_temperature must be > 0, got -1.0"),
        ({"head_lr": 0.0}, "sskd.head_lr must be > 0, got 0.0"),
        ({"tf_ratio": 1.5}, r"sskd.tf_ratio must be in \[0, 1\], got 1.5"),
        ({"ss_ratio": math.nan}, r"sskd.ss_ratio must be in \[0, 1\], got nan"),
        ({"ss_weight": -1.0}, "sskd.ss_weight must be >= 0, got -1.0"),
        ({"head_epochs": -1}, "sskd.head_epochs must be >= 0, got -1"),
        ({"head_milestones": (0.5, 30.0)}, r"sskd.head_milestones must be in \(0, 1\), got \[0.5, 30.0\]"),
    ],
)
def test_settings_outside_their_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SSKDConfig(**settings)
