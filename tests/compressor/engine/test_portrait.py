"""What is measured of a student beside its accuracy: against slow sums, known geometry, and counts by hand."""

import math
from pathlib import Path

import pytest
import torch
from tiny_runs import STEPS_PER_EPOCH, tiny_run
from torch import nn

from compressor.data.resident import ResidentSplit
from compressor.engine.evaluate import Predictions
from compressor.engine.normalise import Normalisation
from compressor.engine.portrait import divergence, embeddings, linear_cka, worst_errors
from compressor.storage import read_tensors

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_divergence_is_the_sum_written_out() -> None:
    student, teacher = draw(5, 3), draw(5, 3, seed=1)
    slow = 0.0
    for row in range(5):
        for column in range(3):
            target = float(teacher[row].softmax(0)[column])
            slow += target * (math.log(target) - float(student[row].log_softmax(0)[column])) / 5
    assert divergence(student, teacher) == pytest.approx(slow)
    assert divergence(teacher + 3.0, teacher) == pytest.approx(0.0, abs=1e-12)


def test_cka_is_the_ratio_of_centred_gram_matrices() -> None:
    # The same number from the images' side: HSIC of the centred linear kernels (Kornblith et al. 2019, equation 4).
    one, other = draw(12, 4), draw(12, 7, seed=1)
    centre = torch.eye(12, dtype=torch.float64) - 1 / 12
    first, second = centre @ one @ one.T @ centre, centre @ other @ other.T @ centre
    by_kernels = (first * second).sum() / (first.norm() * second.norm())
    assert linear_cka(one, other) == pytest.approx(float(by_kernels))


def test_cka_does_not_see_rotation_scale_and_shift() -> None:
    vectors = draw(40, 5)
    rotation, _ = torch.linalg.qr(draw(5, 5, seed=2))
    assert linear_cka(vectors, 3.0 * vectors @ rotation + 7.0) == pytest.approx(1.0)
    assert linear_cka(vectors, torch.ones(40, 2)) == 0.0
    assert linear_cka(draw(4000, 3), draw(4000, 3, seed=1)) < 0.01


def test_embedding_is_what_enters_the_classifier_and_may_be_hidden() -> None:
    images = torch.randint(0, 256, (6, 3, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = ResidentSplit(images, torch.zeros(6, dtype=torch.int64))
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))
    found = embeddings(net, split, PLAIN)
    assert found is not None
    assert torch.allclose(found, net[:3](images.float() / 255), atol=1e-6)
    assert embeddings(nn.Sequential(nn.Conv2d(3, 2, 2), nn.Flatten()), split, PLAIN) is None


def test_worst_errors_are_the_most_certain_wrong_ones_and_small() -> None:
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 80, 40).contiguous()
    labels = torch.tensor([0, 0, 0, 0])
    logits = torch.tensor([[9.0, 0.0], [0.0, 1.0], [0.0, 5.0], [0.0, 3.0]])
    found = worst_errors(Predictions(logits, labels), ResidentSplit(images, labels))
    assert found["worst_index"].tolist() == [2, 3, 1]
    assert found["worst_images"].shape == (3, 3, 40, 20)
    assert found["worst_images"].dtype == torch.uint8
    assert found["worst_images"][:, 0, 0, 0].tolist() == [2, 3, 1]
    assert worst_errors(Predictions(logits, torch.tensor([0, 1, 1, 1])), ResidentSplit(images, labels)) == {}


def test_normalised_images_are_stretched_to_be_seen() -> None:
    images = torch.zeros(1, 3, 2, 2)
    images[0, 0, 0, 0], images[0, 1, 1, 1] = -2.0, 2.0
    found = worst_errors(
        Predictions(torch.tensor([[0.0, 1.0]]), torch.tensor([0])), ResidentSplit(images, torch.tensor([0]))
    )
    assert sorted(set(found["worst_images"].flatten().tolist())) == [0, 128, 255]


@pytest.mark.usefixtures("tiny")
def test_run_writes_what_its_student_saw_phase_by_phase() -> None:
    result = tiny_run("sskd", method__head_epochs=1)
    cost = result.values["cost"]
    shown = 270 - 270 % 50 + 20  # 300 images less a tenth held out, in batches of 50 and a last one of 20
    assert math.ceil(shown / 50) == STEPS_PER_EPOCH
    head, student = cost["phases"]
    assert (head["name"], head["artefact"], head["images"], head["teacher_images"]) == ("head", True, 0, 4 * shown)
    assert (student["epochs"], student["views"], student["images"]) == (2, 4, 2 * 4 * shown)
    assert (cost["images"], cost["teacher_images"], cost["views"]) == (8 * shown, 12 * shown, 4)
    assert cost["teacher_seconds"] > 0
    assert 0 <= result.metrics["cka"] <= 1
    assert result.metrics["teacher_kl"] >= 0
    tensors = read_tensors(result.folder / "test.safetensors")
    assert tensors["val_logits"].shape == (30, 10)
    assert tensors["teacher_classes"].shape == tensors["labels"].shape
    agreed = (tensors["logits"].argmax(1) == tensors["teacher_classes"]).double().mean()
    assert result.metrics["agreement"] == pytest.approx(100 * float(agreed))


@pytest.mark.usefixtures("tiny")
def test_both_epochs_are_looked_at_and_the_published_one_is_as_asked() -> None:
    changes = {"training__epochs": 3, "training__lr": 0.02}
    last = tiny_run("scratch", out="last", **changes)
    best = tiny_run("scratch", out="best", training__select="best", **changes)
    assert (last.metrics["top1"], best.metrics["top1"]) == (last.metrics["top1_last"], best.metrics["top1_best"])
    assert {key: last.metrics[key] for key in ("top1_last", "top1_best")} == {
        key: best.metrics[key] for key in ("top1_last", "top1_best")
    }
    alone = tiny_run("scratch", out="alone", data__val_split=0.0, **changes)
    assert not {"top1_last", "top1_best"} & set(alone.metrics)
    assert "val_logits" not in read_tensors(Path("alone/test.safetensors"))
