"""The linear probe: against another implementation, on other classes, and without a trace in the trunk."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from tiny_runs import Recorder, tiny_run
from torch import nn

from compressor.config.layers import Layer, resolve
from compressor.config.settings import RunConfig
from compressor.data.load import load_data
from compressor.data.types import Augmentation
from compressor.engine.normalise import Normalisation
from compressor.engine.probe import probe
from compressor.engine.probe_training import ProbeSettings, ProbeTraining, Trunk, new_head, top1_of
from compressor.errors import InputError, UsageError
from compressor.events import Progress, silent

PLAIN = Normalisation((0.0,) * 3, (1.0,) * 3)
QUICK: dict[str, Any] = {"epochs": 4, "augment": False}


class Pixels(nn.Module):
    """A network whose embedding is the image itself; its batch norm would drift if anybody trained it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(192, 7)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, 7)."""
        answer: torch.Tensor = self.head(self.norm(images).flatten(1))
        return answer


def config(source: str) -> RunConfig:
    return resolve([Layer("test", {"data.source": source, "runtime.device": "cpu", "runtime.workers": 0})]).config


def training_of(settings: ProbeSettings, augmentation: Augmentation | None = None) -> tuple[ProbeTraining, Trunk, Any]:
    data = load_data("digits", val_split=0, pipeline="stream" if settings.augment else "auto")
    trunk = Trunk(Pixels(), PLAIN, torch.device("cpu"))
    return ProbeTraining(trunk, data, 192, settings, augmentation), trunk, data


def write_letters(path: Path) -> None:
    """Three classes of digits under names of their own, so that neither images nor classes are the student's."""
    pixels, labels = load_digits(return_X_y=True)
    chosen = labels < 3
    images = np.rint(pixels[chosen] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    few = labels[chosen]
    np.savez(path, x_train=images[:200], y_train=few[:200], x_test=images[200:300], y_test=few[200:300])


def test_a_probe_of_raw_pixels_is_as_good_as_logistic_regression() -> None:
    training, trunk, data = training_of(ProbeSettings(epochs=40, augment=False))
    train, test = trunk.embed_split(data.train), trunk.embed_split(data.test)
    ours = top1_of(training.run(0, silent), test)
    other = LogisticRegression(max_iter=300).fit(train.embeddings.numpy(), train.labels.numpy())
    theirs = 100 * other.score(test.embeddings.numpy(), test.labels.numpy())
    assert theirs > 90
    assert ours == pytest.approx(theirs, abs=2.5)


def test_the_trunk_is_left_as_it_was() -> None:
    net = Pixels().train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    trunk = Trunk(net, PLAIN, torch.device("cpu"))
    data = load_data("digits", val_split=0)
    ProbeTraining(trunk, data, 192, ProbeSettings(**QUICK), None).run(0, silent)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert not any(value.requires_grad for value in net.parameters())


def test_the_rate_falls_at_thirty_sixty_and_ninety_percent() -> None:
    training, _, _ = training_of(ProbeSettings(augment=False))
    rates = [training.rate(epoch) for epoch in (0, 29, 30, 59, 60, 89, 90, 99)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])


def test_a_classifier_is_a_function_of_its_seed() -> None:
    training, _, _ = training_of(ProbeSettings(epochs=1, augment=False))
    first, same, other = (training.run(seed, silent).weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    head = new_head(192, 10, 3)
    assert float(head.weight.detach().abs().max()) <= 192**-0.5 + 1e-6
    assert torch.equal(head.weight, new_head(192, 10, 3).weight)


def test_augmented_images_differ_from_epoch_to_epoch() -> None:
    changes = Augmentation(crop_scale=0.08, flip=True)
    training, trunk, data = training_of(ProbeSettings(epochs=1), changes)
    rows = [torch.arange(5)]
    drawn = [
        trunk.embed(next(data.train.batches(rows, augmentation=changes, epoch=epoch)).images[:, 0]) for epoch in (0, 1)
    ]
    assert not torch.equal(drawn[0], drawn[1])
    recorder = Recorder()
    training.run(0, recorder)
    [progress] = recorder.of(Progress)
    assert (progress.epoch, progress.epochs, progress.step) == (1, 1, progress.steps)


@pytest.mark.usefixtures("tiny")
def test_a_students_embedding_tells_other_classes_apart() -> None:
    run = tiny_run("scratch", training__epochs=1)
    write_letters(Path("letters.npz"))
    values = probe("run", config("letters.npz"), ProbeSettings(seeds=2, **QUICK))
    assert (values["classes"], values["train"], values["test"]) == (3, 200, 100)
    assert values["embedding"] == 64
    assert values["top1"] == pytest.approx(sum(each["top1"] for each in values["seeds"]) / 2)
    assert values["top1"] > 45  # a third is chance
    assert values["top1_sd"] is not None
    assert (values["protocol"]["epochs"], values["protocol"]["epoch"]) == (4, "last")
    published = probe(str(run.student_folder), config("letters.npz"), ProbeSettings(seeds=2, **QUICK))
    assert published["seeds"] == values["seeds"]


@pytest.mark.usefixtures("tiny")
def test_augmentation_streams_the_images_in_the_students_size() -> None:
    tiny_run("scratch", training__epochs=1)
    write_letters(Path("letters.npz"))
    values = probe("run", config("letters.npz"), ProbeSettings(epochs=1))
    assert values["protocol"]["pipeline"] == "stream"
    assert values["image_size"] == [3, 8, 8]
    assert values["top1_sd"] is None


def test_a_network_without_weights_is_refused() -> None:
    with pytest.raises(InputError, match="resnet8 names an untrained network"):
        probe("resnet8", config("digits"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "--epochs must be >= 1, got 0"),
        ({"batch_size": 0}, "--batch-size must be >= 1, got 0"),
        ({"seeds": 0}, "--seeds must be >= 1, got 0"),
        ({"lr": float("nan")}, "--lr must be > 0, got nan"),
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ProbeSettings(**values)
