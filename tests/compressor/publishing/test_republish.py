"""Publishing a published folder again: the same student, or an error and nothing changed."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from torch import nn

from compressor import storage
from compressor.errors import InputError, StorageError, UsageError
from compressor.publishing import DataFacts, Publication, publish
from compressor.publishing.republish import republish
from compressor.storage.faults import FailingOperations

FILES = ["LICENSE-NOTES.md", "README.md", "compress.json", "config.json", "model.safetensors"]


def facts(module: nn.Module, **changes: Any) -> Publication:
    return Publication(
        **{
            "module": module,
            "architecture": None,
            "class_names": ("a", "b", "c", "d", "e"),
            "input_size": (3, 32, 32),
            "mean": (0.5, 0.4, 0.3),
            "std": (0.2, 0.2, 0.3),
            "version": "0.1.0",
            "method": "kd",
            "data": DataFacts(name="digits"),
            "seed": 3,
            "epochs": 30,
            "config_sha256": "c" * 64,
            "command": "compress distill -m kd",
            "metrics": {"top1": 84.9},
            **changes,
        }
    )


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


def again(source: Path, to: Path | None = None, **changes: Any) -> Path:
    return republish(source, to, **{"push": None, "onnx": False, "license": None, **changes})


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def nameless(tmp_path: Path) -> Path:
    """A student whose network has no importable name: only its tensors are checked, in no time."""
    return publish(facts(tiny()), tmp_path / "run/student").folder


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A student that timm builds."""
    torch.manual_seed(0)
    module = timm.create_model("resnet10t", num_classes=5)
    return publish(facts(module, architecture="resnet10t"), tmp_path / "run/student", check="here").folder


def test_a_copy_elsewhere_has_the_same_bytes_and_the_same_call_again_is_fine(nameless: Path, tmp_path: Path):
    before = content(nameless)
    target = tmp_path / "new" / "größe #1 ?@"
    assert again(nameless, target) == target
    assert again(nameless, target) == target
    assert content(target) == content(nameless) == before
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_licence_given_later_makes_the_folder_that_it_would_have_made_at_once(nameless: Path, tmp_path: Path):
    at_once = publish(facts(tiny(), license="mit"), tmp_path / "at once").folder
    again(nameless, tmp_path / "copy", license="MIT")
    assert content(tmp_path / "copy") == content(at_once)
    again(nameless, license="mit")
    assert content(nameless) == content(at_once)
    again(nameless, license="apache-2.0")
    assert huggingface_hub.ModelCard.load(nameless / "README.md").data.license == "apache-2.0"
    assert "These weights: apache-2.0" in (nameless / "LICENSE-NOTES.md").read_text()


def test_a_card_that_a_person_wrote_keeps_every_line_but_the_licence(nameless: Path, tmp_path: Path):
    (nameless / "README.md").write_text("---\ntags:\n- mine\n---\n\n# Mine\n\n---\n\nlicense: stays\n")
    again(nameless, tmp_path / "copy", license="mit")
    assert (tmp_path / "copy/README.md").read_text() == (
        "---\ntags:\n- mine\nlicense: mit\n---\n\n# Mine\n\n---\n\nlicense: stays\n"
    )


@pytest.mark.parametrize(("name", "words"), [("README.md", "has no front matter"), ("LICENSE-NOTES.md", "has no line")])
def test_texts_that_have_no_place_for_a_licence_are_refused(nameless: Path, tmp_path: Path, name: str, words: str):
    (nameless / name).write_text("mine\n")
    with pytest.raises(InputError, match=words):
        again(nameless, tmp_path / "copy", license="mit")
    assert not (tmp_path / "copy").exists()
    again(nameless, tmp_path / "copy")


def test_a_student_of_timm_is_checked_in_a_fresh_process_and_gets_its_onnx_file(known: Path, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    target = again(known, tmp_path / "copy", onnx=True)
    images = torch.randn(3, 3, 32, 32)
    expected = timm.create_model(f"local-dir:{known}", pretrained=True).eval()(images)
    session = onnxruntime.InferenceSession(target / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": images.numpy()})
    assert torch.allclose(torch.from_numpy(logits), expected, atol=1e-5)
    recorded = storage.read_json(target / "compress.json")["files"]
    assert recorded["model.onnx"] == storage.sha256_file(target / "model.onnx")
    assert {name: data for name, data in content(known).items() if name != "compress.json"} == {
        name: data for name, data in content(target).items() if name not in ("compress.json", "model.onnx")
    }


def test_a_copy_that_answers_differently_in_a_fresh_process_is_not_published(
    known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import compressor.publishing.loading as loading

    class Shifted(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.module(images) + 0.01
            return logits

    real = loading.load_here
    monkeypatch.setattr(
        sys.modules["compressor.publishing.republish"], "load_here", lambda *given: Shifted(real(*given)).eval()
    )
    with pytest.raises(InputError, match="answers differently when it is loaded again"):
        again(known, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def record_without(*names: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        record = storage.read_json(folder / "compress.json")
        record["files"] = {name: value for name, value in record["files"].items() if name not in names}
        storage.write_json(folder / "compress.json", record)

    return spoil


def record_with(**changes: Any) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        storage.write_json(folder / "compress.json", storage.read_json(folder / "compress.json") | changes)

    return spoil


def files_with(name: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        files = storage.read_json(folder / "compress.json")["files"] | {name: "0" * 64}
        record_with(files=files)(folder)

    return spoil


def linked(folder: Path) -> None:
    (folder / "README.md").rename(folder.parent / "README.md")
    (folder / "README.md").symlink_to(folder.parent / "README.md")


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "config.json").unlink(), r"config\.json is missing"),
        (cut, r"damaged: the content of model\.safetensors has changed"),
        (lambda f: (f / "config.json").write_text("{}"), r"the content of config\.json has changed"),
        (lambda f: (f / "compress.json").write_text("{"), "not valid JSON"),
        (lambda f: (f / "compress.json").write_text("[]"), "holds no table"),
        (record_with(schema=2), "has schema 2, this program reads 1"),
        (record_with(files=None), "does not record"),
        (record_without("model.safetensors"), "does not record"),
        (files_with("../../secret"), "is not a name inside"),
        (files_with("/etc/passwd"), "is not a name inside"),
        (files_with("model.onnx"), r"model\.onnx is missing"),
        (linked, r"README\.md is a link"),
        (lambda f: (f / "pytorch_model.bin").write_bytes(b"x"), "does not belong to a published student"),
        (lambda f: (f / "student").mkdir(), "does not belong to a published student"),
        (lambda f: ((f / "LICENSE-NOTES.md").unlink(), (f / "LICENSE-NOTES.md").mkdir()), "does not belong"),
        (lambda f: (f / "model.onnx").write_bytes(b"x"), r"model\.onnx is not in compress\.json"),
    ],
)
def test_a_damaged_source_is_refused_and_nothing_is_written(
    nameless: Path, tmp_path: Path, spoil: Callable[[Path], object], words: str
):
    spoil(nameless)
    with pytest.raises(InputError, match=words):
        again(nameless, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def rewritten(folder: Path, **changes: Any) -> None:
    """Change ``config.json`` as somebody would who means harm: its checksum is right."""
    config = storage.read_json(folder / "config.json") | changes
    storage.write_json(folder / "config.json", config)
    files = storage.read_json(folder / "compress.json")["files"]
    record_with(files=files | {"config.json": storage.sha256_file(folder / "config.json")})(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compress": {"requires": ["harm"]}}, "asks to import 'harm', which brings no architecture here"),
        ({"architecture": "no_such_network"}, "cannot be loaded"),
        ({"num_classes": 0}, "make no sense"),
        ({"pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5], "std": [1, 1, 1]}}, "make no sense"),
        ({"pretrained_cfg": {}}, "config.json is damaged: KeyError"),
        ({"compress": None}, "config.json is damaged: TypeError"),
    ],
)
def test_a_config_that_asks_for_what_is_not_allowed_is_refused(
    known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
):
    (tmp_path / "harm.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    rewritten(known, **changes)
    with pytest.raises(InputError, match=words):
        again(known, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


OWN = (
    "from torch import nn\n\n\ndef build(num_classes):\n"
    "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))\n"
)


def run_of(folder: Path, factory: str) -> None:
    (folder.parent / "run.json").write_text(json.dumps({"config": {"student": {"name": factory}}}))


def test_a_network_of_ones_own_is_published_again_only_from_its_run(
    nameless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "own_republished.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    rewritten(nameless, compress={"requires": [], "factory": "own_republished:build"})
    with pytest.raises(InputError, match="no run beside it says that this is your own code"):
        again(nameless, tmp_path / "copy")
    assert "own_republished" not in sys.modules
    run_of(nameless, "own_republished:build")
    again(nameless, tmp_path / "copy")
    assert content(tmp_path / "copy") == content(nameless)
    del sys.modules["own_republished"]


def test_a_function_that_makes_no_networks_is_not_called(
    nameless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "own_harm.py").write_text("def harm():\n    open('harmed', 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    rewritten(nameless, compress={"requires": [], "factory": "own_harm:harm"})
    run_of(nameless, "own_harm:harm")
    with pytest.raises(InputError, match="takes no num_classes"):
        again(nameless, tmp_path / "copy")
    assert not (tmp_path / "harmed").exists()
    del sys.modules["own_harm"]


@pytest.mark.parametrize(
    ("factory", "arguments", "run"),
    [
        ("os:system", {"command": "touch harmed"}, "os:system"),
        ("os:abort", {}, "os:abort"),
        ("own:build", {"path": "/etc"}, "own:build"),
        ("own:build", {}, "other:build"),
    ],
)
def test_a_strangers_run_cannot_make_a_call(
    nameless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, arguments: dict[str, Any], run: str
):
    monkeypatch.chdir(tmp_path)
    rewritten(nameless, compress={"requires": [], "factory": factory}, model_args=arguments)
    run_of(nameless, run)
    with pytest.raises(InputError, match="would be loaded by calling"):
        again(nameless, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_taken_name_is_refused_and_left_alone(nameless: Path, tmp_path: Path):
    other = publish(facts(tiny(), seed=4), tmp_path / "other").folder
    file, empty, link = tmp_path / "file", tmp_path / "empty", tmp_path / "link"
    file.write_text("mine")
    empty.mkdir()
    link.symlink_to(other)
    before = content(other)
    for taken in (other, file, empty, link):
        with pytest.raises(StorageError, match="is already there"):
            again(nameless, taken)
    assert (content(other), file.read_text(), list(empty.iterdir())) == (before, "mine", [])
    with pytest.raises(StorageError, match="lies inside"):
        again(nameless, nameless / "copy")
    assert sorted(content(nameless)) == FILES


def test_what_is_no_published_folder_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="is not a folder"):
        again(tmp_path / "missing")
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        again(tmp_path)


def test_tensors_without_a_network_have_no_onnx_file(nameless: Path, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match="nothing to export"):
        again(nameless, tmp_path / "copy", onnx=True)


def test_a_push_takes_the_new_folder_and_what_it_needs_is_asked_first(
    nameless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[Path, str]] = []
    module = sys.modules["compressor.publishing.republish"]
    monkeypatch.setattr(module, "push_folder", lambda folder, name: asked.append((folder, name)))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    again(nameless, tmp_path / "copy", push="org/name")
    assert asked == [(tmp_path / "copy", "org/name")]
    with pytest.raises(InputError, match="must be organisation/name"):
        again(nameless, tmp_path / "second", push="name")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set"):
        again(nameless, tmp_path / "second", push="org/name")
    with pytest.raises(InputError, match="license must be an id"):
        again(nameless, tmp_path / "second", license="see the card")
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("in_place", [False, True])
def test_each_operation_failed_once_leaves_the_old_or_the_new_whole(nameless: Path, tmp_path: Path, in_place: bool):
    before = content(nameless)
    wanted = content(again(nameless, tmp_path / "wanted", license="mit"))
    target = nameless if in_place else tmp_path / "copy"
    number = 0
    while True:
        number += 1
        storage.remove_tree(target)
        if in_place:
            publish(facts(tiny()), nameless)
        disk = FailingOperations(number)
        with storage.replaced_operations(disk):
            try:
                again(nameless, target, license="mit")
            except StorageError:
                assert disk.failed
            else:
                assert not disk.failed
                break
        left = [content(folder) for folder in target.parent.iterdir() if folder.name.startswith(target.name)]
        assert all(one in (before, wanted) for one in left)
        assert left or not in_place
    assert number > 30
    assert content(target) == wanted
    assert os.listdir(target.parent).count(target.name) == 1  # noqa: PTH208  # names alone
