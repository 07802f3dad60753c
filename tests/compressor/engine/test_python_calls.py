"""`compressor.distill`, `compare` and `publish` as a notebook calls them: with names or with one's own objects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import TINY, student_sha, tiny_run
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import compressor
from compressor.errors import InputError, UsageError

SETTINGS: dict[str, Any] = {
    key: value for key, value in TINY.items() if not key.startswith(("teacher.", "student.", "data.source"))
}

pytestmark = pytest.mark.usefixtures("tiny")


class OwnNetwork(nn.Module):
    """A network of the user's, known to nobody."""

    def __init__(self, width: int, num_classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images))
        return logits


class Digits(Dataset[tuple[Tensor, int]]):
    """The tiny digits as a map-style dataset of uint8 tensors."""

    def __init__(self, split: str) -> None:
        with np.load("tiny.npz") as archive:
            self.images = torch.tensor(archive[f"x_{split}"])[:, None]
            self.targets = archive[f"y_{split}"].tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.targets[index]


def trained_teacher() -> OwnNetwork:
    torch.manual_seed(0)
    teacher = OwnNetwork(16)
    trained = compressor.distill(
        method="scratch",
        student=teacher,
        data="tiny.npz",
        out="teacher",
        settings={**SETTINGS, "training.epochs": 6, "training.lr": 0.02},
    )
    assert isinstance(trained.model, OwnNetwork)
    return trained.model


def test_names_give_what_the_command_line_gives() -> None:
    result = compressor.distill(
        method="kd", teacher="resnet14", student="resnet8", data="tiny.npz", out="py", settings=SETTINGS
    )
    assert student_sha(result) == student_sha(tiny_run("kd", out="cli"))
    again = compressor.distill(
        method="kd", teacher="resnet14", student="resnet8", data="tiny.npz", out="py", settings=SETTINGS
    )
    assert again.model is None
    assert again.document() == result.document()


def test_own_networks_and_datasets_train_and_resume() -> None:
    teacher = trained_teacher()
    torch.manual_seed(1)
    student = OwnNetwork(4)
    start = {name: value.clone() for name, value in student.state_dict().items()}
    data = (Digits("train"), Digits("test"))
    result = compressor.distill(method="kd", teacher=teacher, student=student, data=data, out="own", settings=SETTINGS)
    assert result.values["teacher"]["name"] == "OwnNetwork"
    assert result.values["data"]["name"]
    assert result.metrics["teacher_top1"] > 20
    assert any(not torch.equal(value, start[name]) for name, value in result.model.state_dict().items())  # type: ignore[union-attr]  # a fresh run has it
    published = result.student_folder
    assert (published / "model.safetensors").is_file()


def test_own_network_of_other_weights_is_another_run() -> None:
    teacher = trained_teacher()
    torch.manual_seed(1)
    compressor.distill(
        method="kd", teacher=teacher, student=OwnNetwork(4), data="tiny.npz", out="own", settings=SETTINGS
    )
    torch.manual_seed(2)
    with pytest.raises(UsageError, match=r"student\.init"):
        compressor.distill(
            method="kd", teacher=teacher, student=OwnNetwork(4), data="tiny.npz", out="own", settings=SETTINGS
        )


def test_untrained_own_teacher_is_refused() -> None:
    untrained = OwnNetwork(8)
    nn.init.zeros_(untrained.head.weight)  # chance could be lucky: this one says the same of every image
    with pytest.raises(InputError, match="teacher top-1 is"):
        compressor.distill(
            method="kd", teacher=untrained, student="resnet8", data="tiny.npz", out="own", settings=SETTINGS
        )


def test_own_teacher_of_other_classes_is_refused_with_both_numbers() -> None:
    with pytest.raises(InputError, match=r"teacher .*has 7 classes, data tiny\.npz has 10"):
        compressor.distill(
            method="kd",
            teacher=OwnNetwork(8, num_classes=7),
            student="resnet8",
            data="tiny.npz",
            out="own",
            settings=SETTINGS,
        )


def test_normalised_float_images_are_not_normalised_again() -> None:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(80, 3, 8, 8, generator=generator), torch.arange(80) % 4
    data = (TensorDataset(images, labels), TensorDataset(images[:20], labels[:20]))
    result = compressor.distill(method="scratch", student="resnet8", data=data, out="float", settings=SETTINGS)
    assert result.values["data"]["classes"] == 4
    with torch.no_grad():
        logits = result.model(images[:20])  # type: ignore[misc]  # a fresh run has it
    assert result.metrics["top1"] == pytest.approx(100 * float((logits.argmax(1) == labels[:20]).double().mean()))


def test_comparison_with_an_own_teacher_has_a_row_for_each() -> None:
    made = compressor.compare(
        methods=["kd"],
        teacher=trained_teacher(),
        student="resnet8",
        data="tiny.npz",
        seeds=2,
        out="cmp",
        settings=SETTINGS,
    )
    assert {(row.method, row.n) for row in made.rows} == {("teacher", 1), ("scratch", 2), ("kd", 2)}
    assert made.exit_code == 0
    assert (Path("cmp") / "table.csv").is_file()


def test_unknown_setting_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"settings: unknown setting 'training\.epoch'") as caught:
        compressor.distill(method="kd", settings={"training.epoch": 3})
    assert "training.epochs" in str(caught.value.hint)


def test_unfinished_run_is_not_published() -> None:
    with pytest.raises(InputError, match="is not a run"):
        compressor.publish("nowhere")
