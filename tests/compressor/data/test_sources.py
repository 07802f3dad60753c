"""Sources that are files of others: npz, torchvision's, CIFAR's own, the hub's."""

import hashlib
import pickle
import struct
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from compressor.data.load import load_data
from compressor.data.sources import cifar, torchvision_sets
from compressor.data.types import DataSet
from compressor.errors import InputError, UsageError

OWNED = np.random.default_rng(0)
IMAGES = OWNED.integers(0, 256, (12, 6, 5, 3)).astype(np.uint8)
LABELS = np.arange(12) % 3


def shown_in_test(data: DataSet) -> torch.Tensor:
    return next(data.test.batches([torch.arange(len(data.test))])).images[:, 0]


def arrays(**changes: Any) -> dict[str, Any]:
    found = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:3], "y_test": LABELS[:3], **changes}
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize("layout", ["last", "first", "grey", "grey1"])
def test_npz_arrays_are_read_in_every_layout(tmp_path: Path, layout: str) -> None:
    x = {"last": IMAGES, "first": IMAGES.transpose(0, 3, 1, 2), "grey": IMAGES[..., 0], "grey1": IMAGES[..., :1]}[
        layout
    ]
    np.savez(tmp_path / "a.npz", **arrays(x_train=x, x_test=x[:3], y_train=LABELS[:, None]))
    data = load_data(str(tmp_path / "a.npz"), val_split=0)
    channels = [0, 1, 2] if layout in ("last", "first") else [0, 0, 0]
    assert shown_in_test(data).tolist() == IMAGES[:3].transpose(0, 3, 1, 2)[:, channels].tolist()
    assert data.class_names == ("0", "1", "2")
    assert data.train.labels.tolist() == LABELS.tolist()


def test_npz_in_the_names_of_medmnist_brings_its_own_validation_part(tmp_path: Path) -> None:
    parts = {"train": 12, "val": 6, "test": 3}
    named = {f"{split}_images": IMAGES[:count] for split, count in parts.items()}
    named |= {f"{split}_labels": LABELS[:count, None] for split, count in parts.items()}
    np.savez(tmp_path / "a.npz", **named, class_names=np.array(["x", "y", "z"]))
    data = load_data(str(tmp_path / "a.npz"), val_split=0.3)
    assert data.val is not None
    assert (len(data.train), len(data.val), len(data.test)) == (12, 6, 3)
    assert data.class_names == ("x", "y", "z")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": IMAGES / 255}, "images of .*, train are float64"),
        ({"x_train": IMAGES[:, :, :, :2]}, r"images of .*, train have shape \(12, 6, 5, 2\)"),
        ({"y_train": LABELS[:5]}, "12 images and 5 labels"),
        ({"y_train": LABELS - 1}, "label -1 of .*, image 0, is not one of 0, 1, 2 ..."),
        ({"y_test": LABELS[:3] + 2}, "label 3 of .*, test, image 1, is not one of 0 to 2"),
        ({"y_train": LABELS.astype(float)}, "labels of .* are float64"),
        ({"y_train": LABELS * 2}, "no training image of '1', '3'"),
        ({"y_train": LABELS * 0, "y_test": LABELS[:3] * 0}, "one class, '0'"),
        ({"x_test": None}, "holds x_train, y_test, y_train"),
        ({"x_train": IMAGES[:0], "y_train": LABELS[:0], "class_names": ["a", "b", "c"]}, "has no training images"),
        ({"y_train": np.array([{}] * 12)}, "Object arrays cannot be loaded"),
    ],
)
def test_unusable_npz_files_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    with pytest.raises(InputError, match=message):
        load_data(str(tmp_path / "a.npz"))


def test_missing_and_damaged_npz_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*a\.npz"):
        load_data(str(tmp_path / "a.npz"))
    (tmp_path / "b.npz").write_bytes(b"not an archive")
    with pytest.raises(InputError, match=r"cannot read .*b\.npz"):
        load_data(str(tmp_path / "b.npz"))
    np.savez_compressed(tmp_path / "c.npz", **arrays())
    content = (tmp_path / "c.npz").read_bytes()
    (tmp_path / "c.npz").write_bytes(content[:200] + bytes(60) + content[260:])
    with pytest.raises(InputError, match=r"cannot read .*c\.npz"):
        load_data(str(tmp_path / "c.npz"))


def write_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray[Any, Any]:
    folder = root / "cifar-100-python"
    folder.mkdir()
    pixels = OWNED.integers(0, 256, (8, 3072)).astype(np.uint8)
    batch = {"data": pixels, "fine_labels": [0, 1] * 4}
    contents = {"train": batch, "test": batch, "meta": {"fine_label_names": ["apple", "pear"]}}
    for name, content in contents.items():
        written = pickle.dumps(content)
        (folder / name).write_bytes(written)
        monkeypatch.setitem(cifar.SETS["cifar100"].md5, name, hashlib.md5(written).hexdigest())
    return pixels


def test_cifar_rows_are_three_planes_of_32_by_32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_cifar100(tmp_path, monkeypatch)
    data = load_data("torch/cifar100", directory=str(tmp_path), val_split=0)
    shown = shown_in_test(data)
    assert int(shown[2, 1, 4, 7]) == pixels[2, 1024 + 4 * 32 + 7]
    assert shown.flatten(1).tolist() == pixels.tolist()
    assert data.class_names == ("apple", "pear")
    assert data.name == "torch/cifar100"
    again = load_data("torch/cifar100", directory=str(tmp_path / "cifar-100-python"), val_split=0)
    assert again.sha256 == data.sha256


def test_a_cifar_file_that_is_not_the_official_one_is_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar100(tmp_path, monkeypatch)

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "it-ran",))

    (tmp_path / "cifar-100-python" / "meta").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="is not the official file"):
        load_data("torch/cifar100", directory=str(tmp_path))
    assert not (tmp_path / "it-ran").exists()


def test_the_official_sums_are_those_torchvision_publishes() -> None:
    from torchvision.datasets import CIFAR10, CIFAR100

    for name, theirs in (("cifar10", CIFAR10), ("cifar100", CIFAR100)):
        ours = cifar.SETS[name]
        listed = [*theirs.train_list, *theirs.test_list, [theirs.meta["filename"], theirs.meta["md5"]]]
        assert ours.md5 == dict(listed)
        assert [*ours.train, *ours.test] == [file for file, _ in listed[:-1]]
        assert ours.folder == theirs.base_folder
        assert ours.names == theirs.meta["key"]


def test_missing_files_say_how_to_get_them_and_nothing_is_downloaded(tmp_path: Path) -> None:
    for name, known in (("cifar10", "CIFAR10"), ("mnist", "MNIST"), ("flowers102", "Flowers102"), ("svhn", "SVHN")):
        with pytest.raises(InputError, match=f"torch/{name} is not in ") as caught:
            load_data(f"torch/{name}", directory=str(tmp_path))
        assert f"import {known} as D; D('{tmp_path}', download=True)" in str(caught.value.hint)
        assert caught.value.code == "data.missing"


def test_unknown_torchvision_names_are_refused() -> None:
    with pytest.raises(UsageError, match="no torchvision classification set 'cifar1000'") as caught:
        load_data("torch/cifar1000")
    assert "cifar100" in str(caught.value.hint)
    with pytest.raises(UsageError, match="'zzz'") as caught:
        load_data("torch/zzz")
    assert "flowers102" in str(caught.value.hint)


def test_every_torchvision_entry_is_a_class_with_these_splits() -> None:
    import inspect

    from torchvision import datasets

    assert len(torchvision_sets.SETS) == 18
    for entry in torchvision_sets.SETS.values():
        wanted = "train" if isinstance(entry.train, bool) else "split"
        assert wanted in inspect.signature(getattr(datasets, entry.name)).parameters


def test_mnist_is_read_from_its_idx_files(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = OWNED.integers(0, 256, (20, 28, 28)).astype(np.uint8)
    digits = (np.arange(20) % 10).astype(np.uint8)
    for prefix in ("train", "t10k"):
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, 20, 28, 28) + pixels.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 20) + digits.tobytes())
    data = load_data("torch/mnist", directory=str(tmp_path), val_split=0)
    assert shown_in_test(data)[:, 1].tolist() == pixels.tolist()
    assert data.train.labels.tolist() == digits.tolist()
    assert data.class_names[3] == "3 - three"


class FakeSplit(list[dict[str, Any]]):
    """A hub dataset as far as we use one: rows by number, columns by name, features."""

    features: dict[str, Any]

    def __getitem__(self, key: Any) -> Any:
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def hub(
    monkeypatch: pytest.MonkeyPatch, splits: dict[str, int], *, label_columns: tuple[str, ...] = ("label",)
) -> None:
    kinds = {name: type(name, (), {}) for name in ("Image", "ClassLabel", "Value")}

    def feature(kind: str, **attributes: Any) -> Any:
        made = kinds[kind]()
        vars(made).update(attributes)
        return made

    def load_dataset(name: str, cache_dir: str | None) -> Any:
        if name != "org/set":
            raise FileNotFoundError(f"{name} is not on the hub\nand more")
        made = {}
        for split, count in splits.items():
            rows = [
                {"photo": Image.fromarray(IMAGES[row]), **dict.fromkeys(label_columns, int(LABELS[row])), "id": row}
                for row in range(count)
            ]
            made[split] = FakeSplit(rows)
            made[split].features = {"id": feature("Value"), "photo": feature("Image")}
            made[split].features |= {each: feature("ClassLabel", names=["x", "y", "z"]) for each in label_columns}
        return made

    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]  # a made-up module
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_hub_sets_are_read_by_the_types_of_their_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, {"train": 12, "validation": 6, "test": 3})
    data = load_data("hfds/org/set")
    assert data.val is not None
    assert (len(data.train), len(data.val), len(data.test)) == (12, 6, 3)
    assert data.class_names == ("x", "y", "z")
    assert shown_in_test(data).tolist() == IMAGES[:3].transpose(0, 3, 1, 2).tolist()
    hub(monkeypatch, {"train": 12, "validation": 6})
    assert len(load_data("hfds/org/set", val_split=0).test) == 6


def test_hub_sets_with_several_label_columns_need_a_usual_name(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, {"train": 12, "test": 3}, label_columns=("coarse_label", "fine_label"))
    assert load_data("hfds/org/set", val_split=0).num_classes == 3
    hub(monkeypatch, {"train": 12, "test": 3}, label_columns=("this", "that"))
    with pytest.raises(InputError, match="2 columns of type ClassLabel: its columns are id, photo, this, that"):
        load_data("hfds/org/set")


def test_unusable_hub_sets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, {"train": 12})
    with pytest.raises(InputError, match="has the splits train: neither test nor validation"):
        load_data("hfds/org/set")
    hub(monkeypatch, {"test": 12})
    with pytest.raises(InputError, match="has no split 'train'"):
        load_data("hfds/org/set")
    with pytest.raises(InputError, match=r"^cannot load hfds/org/other: org/other is not on the hub$"):
        load_data("hfds/org/other")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="needs the package datasets") as caught:
        load_data("hfds/org/set")
    assert caught.value.hint == "pip install 'compress-kd[hfds]'"


def test_a_torchvision_set_that_lacks_a_package_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    def needs(*_: Any, **__: Any) -> SimpleNamespace:
        raise ModuleNotFoundError("No module named 'h5py'", name="h5py")

    monkeypatch.setattr(datasets, "PCAM", needs)
    with pytest.raises(InputError, match="torch/pcam needs h5py"):
        load_data("torch/pcam", directory=str(tmp_path))
