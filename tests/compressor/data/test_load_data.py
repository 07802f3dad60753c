"""Loading: splits, few-shot parts, statistics and hashes of a whole data set."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from compressor.data import load as loading
from compressor.data.catalogue import describe_sources
from compressor.data.load import bad_images_error, load_data
from compressor.data.resident import ResidentSplit
from compressor.errors import InputError, UsageError


def images_of(split: object) -> torch.Tensor:
    assert isinstance(split, ResidentSplit)
    return split.images


def test_digits_are_those_of_scikit_learn_spread_over_a_byte() -> None:
    data = load_data("digits")
    assert data.val is not None
    parts = (data.train, data.val, data.test)
    pixels = torch.cat([images_of(part) for part in parts])
    labels = torch.cat([part.labels for part in parts])
    flat, targets = load_digits(return_X_y=True)
    theirs = sorted((*image, label) for image, label in zip(flat.tolist(), targets.tolist(), strict=True))
    grey = (pixels[:, 0].flatten(1).double() * 16 / 255).round()
    ours = sorted((*image, label) for image, label in zip(grey.tolist(), labels.tolist(), strict=True))
    assert ours == theirs
    assert torch.equal(pixels[:, 0], pixels[:, 2])
    assert int(pixels.max()) == 255


def test_digits_hold_thirty_percent_out_for_testing_whatever_the_seed() -> None:
    data, other = load_data("digits"), load_data("digits", split_seed=8)
    assert data.name == "digits"
    assert data.class_names == tuple("0123456789")
    assert len(data.test) == 539
    assert len(data.train) + len(data.val or ()) == 1258
    assert torch.equal(images_of(data.test), images_of(other.test))
    assert data.val is not None
    assert not torch.equal(images_of(data.val), images_of(other.val))
    counts = torch.bincount(data.val.labels).tolist()
    assert min(counts) >= 12
    assert max(counts) <= 13


def test_shots_thin_the_students_part_alone() -> None:
    every, few = load_data("digits"), load_data("digits", shots=3)
    assert torch.bincount(few.train.labels).tolist() == [3] * 10
    assert len(few.teacher_train) == len(every.train) == len(every.teacher_train)
    assert few.teacher_sha256 == every.teacher_sha256 == load_data("digits", shots=5).teacher_sha256
    assert few.sha256 != every.sha256
    assert (few.mean, few.std) == (every.mean, every.std)
    assert torch.equal(images_of(few.test), images_of(every.test))


def test_wrong_labels_reach_the_students_training_images_alone() -> None:
    clean, noisy = load_data("digits"), load_data("digits", label_noise=0.2)
    audit = noisy.label_noise
    assert audit is not None
    assert clean.label_noise is None
    assert int((noisy.train.labels != clean.train.labels).sum()) == int(0.2 * len(clean.train) + 0.5)
    assert torch.equal(audit.given, noisy.train.labels)
    assert torch.equal(audit.clean, clean.train.labels)
    assert torch.equal(noisy.clean_labels, clean.clean_labels)
    assert torch.equal(audit.flipped, noisy.train.labels != clean.train.labels)
    assert noisy.val is not None
    assert clean.val is not None
    for theirs, ours in ((clean.teacher_train, noisy.teacher_train), (clean.val, noisy.val), (clean.test, noisy.test)):
        assert torch.equal(theirs.labels, ours.labels)
    assert torch.equal(images_of(noisy.train), images_of(clean.train))
    assert noisy.teacher_sha256 == clean.teacher_sha256
    assert noisy.sha256 != clean.sha256


def test_the_rows_of_an_audit_lead_back_to_the_source() -> None:
    whole = load_data("digits", val_split=0)
    part = load_data("digits", fraction=30, imbalance=3, label_noise=0.5)
    audit = part.label_noise
    assert audit is not None
    assert torch.equal(images_of(whole.train)[audit.rows], images_of(part.train))
    assert torch.equal(whole.train.labels[audit.rows], audit.clean)
    assert set(audit.tensors()) == {"rows", "labels", "clean_labels"}


def test_both_pipelines_show_the_student_the_same_scenario() -> None:
    choice = {"fraction": 40.0, "imbalance": 5.0, "label_noise": 0.3}
    resident, streamed = (load_data("digits", pipeline=kind, **choice) for kind in ("resident", "stream"))  # type: ignore[arg-type]  # words of a literal
    assert torch.equal(resident.train.labels, streamed.train.labels)
    positions = [torch.arange(0, len(resident.train), 30)]
    left, right = next(resident.train.batches(positions)), next(streamed.train.batches(positions))
    assert torch.equal(left.images, right.images)
    assert torch.equal(left.labels, right.labels)


def test_every_scenario_has_a_hash_of_its_own_and_a_whole_one_is_none() -> None:
    choices: list[dict[str, float]] = [{}, {"fraction": 50}, {"imbalance": 5}, {"label_noise": 0.1}]
    assert len({load_data("digits", **choice).sha256 for choice in choices}) == 4  # type: ignore[arg-type]
    streamed = [load_data("digits", pipeline="stream", label_noise=share).sha256 for share in (0.0, 0.1, 0.2)]
    assert len(set(streamed)) == 3
    assert load_data("digits", fraction=100, imbalance=1, label_noise=0).sha256 == load_data("digits").sha256


def test_hashes_are_stable_and_follow_every_choice() -> None:
    hashes = [
        load_data("digits", **choice).sha256
        for choice in ({}, {"val_split": 0.2}, {"split_seed": 1}, {"image_size": 9})
    ]
    assert len(set(hashes)) == 4
    assert load_data("digits").sha256 == hashes[0]


def test_no_validation_share_means_no_validation_part() -> None:
    data = load_data("digits", val_split=0)
    assert data.val is None
    assert len(data.train) == 1258


def test_mean_and_deviation_are_those_of_the_training_pixels() -> None:
    data = load_data("digits")
    pixels = images_of(data.teacher_train).numpy() / 255
    assert data.mean == pytest.approx(np.mean(pixels, axis=(0, 2, 3)))
    assert data.std == pytest.approx(np.std(pixels, axis=(0, 2, 3)))


def test_auto_streams_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    need = 1797 * 3 * 8 * 8
    monkeypatch.setattr(loading, "RESIDENT_BYTES", need)
    assert load_data("digits").pipeline == "resident"
    monkeypatch.setattr(loading, "RESIDENT_BYTES", need - 1)
    assert load_data("digits").pipeline == "stream"
    assert load_data("digits", pipeline="resident").pipeline == "resident"


def test_both_pipelines_show_the_same_evaluation_pixels_and_splits() -> None:
    resident, streamed = load_data("digits"), load_data("digits", pipeline="stream")
    assert (resident.pipeline, streamed.pipeline) == ("resident", "stream")
    positions = [torch.arange(0, 539, 50)]
    left, right = next(resident.test.batches(positions)), next(streamed.test.batches(positions))
    assert torch.equal(left.images, right.images)
    assert torch.equal(left.labels, right.labels)
    assert torch.equal(resident.train.labels, streamed.train.labels)
    assert streamed.mean == pytest.approx(resident.mean, abs=0.02)  # of 512 images


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"val_split": 1.5}, r"val_split must be in \[0, 1\), got 1.5"),
        ({"shots": 0}, "shots must be >= 1, got 0"),
        ({"fraction": 0}, "fraction must be 1 to 100 percent, got 0"),
        ({"label_noise": 1}, r"label_noise must be in \[0, 1\), got 1"),
        ({"imbalance": 900}, "imbalance 900 leaves the last class no image: class '[0-9]', the smallest, has 110"),
        ({"shots": 900}, "900 shots a class were asked for, class '[0-9]' has 1[0-9][0-9] training images"),
        ({"pipeline": "fast"}, "pipeline must be auto, resident or stream, got 'fast'"),
        ({"crop_pct": 0}, r"crop_pct must be in \(0, 1\], got 0"),
        ({"image_size": 0}, "image size must be >= 1, got 0 x 0"),
    ],
)
def test_values_out_of_range_are_refused(choice: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_data("digits", **choice)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("source", "error", "message", "hint"),
    [
        ("digit", InputError, "no data source, folder or file 'digit'", "did you mean digits?"),
        ("./nowhere", InputError, "no data source, folder or file './nowhere'", "compress list data"),
        ("x" * 5000, InputError, "no data source, folder or file 'xxx", "compress list data"),
        ("torch", UsageError, "only the kind of a source", "torch/cifar100"),
        ("hfds/", UsageError, "only the kind of a source", "hfds/ORG/NAME"),
    ],
)
def test_unknown_sources_are_refused_with_a_way_on(
    source: str, error: type[InputError], message: str, hint: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        load_data(source)
    assert hint in str(caught.value.hint)


def test_at_most_five_unreadable_images_are_shown() -> None:
    message = bad_images_error(tuple(f"f{number}.jpg (empty file)" for number in range(7))).message
    assert message.startswith("7 unreadable images, first: f0.jpg (empty file); f1.jpg")
    assert "f4.jpg" in message
    assert "f5.jpg" not in message


def test_the_catalogue_is_complete_and_needs_neither_torch_nor_numpy() -> None:
    assert [entry.name for entry in describe_sources()] == [
        "digits",
        "torch/NAME",
        "hfds/ORG/NAME",
        "FOLDER",
        "FILE.npz",
    ]
    assert all(entry.meaning for entry in describe_sources())
    probe = "import sys, compressor.data.catalogue; assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], check=True)
