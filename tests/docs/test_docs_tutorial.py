"""The code on the pages runs as it is printed."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from docs_pages import DOCS, blocks

import compressor
from compressor import registry
from compressor.engine.methods import method_config
from compressor.errors import UsageError
from compressor.models.create import create_model
from compressor.models.taps import TappedModel, Wanted
from compressor.registry import load_method
from compressor.testing import check_architecture, check_distiller

SHORT = {"training.epochs": 1, "teacher_training.epochs": 2, "runtime.threads": 1}
PAIR: dict[str, Any] = {"teacher": "resnet14", "student": "resnet8", "data": "digits"}
MODULES = ("my_methods", "own_network", "test_my_methods")  # timm remembers what `my_networks` registered


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the tutorials' packages as pip would: modules on the path, and a ``dist-info`` with entry points."""
    site = tmp_path / "site"
    info = site / "my_plugin-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 0.1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(entry_points(), encoding="utf-8")
    for page, title in (
        ("extend/add-a-method.md", "my_methods.py"),
        ("extend/add-a-method.md", "test_my_methods.py"),
        ("extend/architectures.md", "my_networks.py"),
        ("quickstart.md", "own_network.py"),
    ):
        (site / title).write_text("\n".join(blocks(page, "python", title)), encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    forget()
    yield site
    for name in MODULES:
        sys.modules.pop(name, None)
    monkeypatch.undo()
    forget()


def forget() -> None:
    from compressor.models import catalogue

    registry.forget()
    catalogue.short_names.cache_clear()
    importlib.invalidate_caches()


def entry_points() -> str:
    """Return the tables of entry points that the pages print, as pip writes them."""
    lines = []
    for page in ("extend/add-a-method.md", "extend/architectures.md"):
        for line in "\n".join(blocks(page, "toml", "pyproject.toml")).splitlines():
            if line.startswith("[project.entry-points."):
                lines.append("[" + line.split('"')[1] + "]")
            elif lines and " = " in line:
                lines.append(line.replace('"', ""))
    return "\n".join(lines) + "\n"


def test_the_pages_print_these_entry_points() -> None:
    assert entry_points().splitlines() == [
        "[compressor.methods]",
        "hard_labels = my_methods:HardLabels",
        "embedding_hint = my_methods:EmbeddingHint",
        "[compressor.architectures]",
        "my_tiny_net = my_networks:my_tiny_net",
    ]


@pytest.mark.usefixtures("plugin")
def test_the_methods_of_the_tutorial_are_found_and_keep_the_contract() -> None:
    for name in ("hard_labels", "embedding_hint"):
        method = load_method(name)
        assert check_distiller(method) == []
    with pytest.raises(UsageError, match=r"hard_labels.teacher_share must be in \[0, 1\], got 2.0"):
        method_config(load_method("hard_labels"), {"teacher_share": 2.0})


@pytest.mark.usefixtures("plugin")
def test_the_test_of_the_tutorial_passes() -> None:
    module = importlib.import_module("test_my_methods")
    tests = [value for name, value in vars(module).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


@pytest.mark.usefixtures("plugin")
def test_the_smallest_method_trains_a_student() -> None:
    result = compressor.distill(method="hard_labels", **PAIR, settings=SHORT | {"method.teacher_share": 0.3})
    assert result.document()["method"] == "hard_labels"
    assert result.document()["status"] == "done"
    header, line = (result.folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
    values = dict(zip(header.split(","), line.split(","), strict=True))
    assert {"ce", "teacher"} <= set(values)
    assert float(values["ce"]) + float(values["teacher"]) == pytest.approx(float(values["train_loss"]), rel=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
def test_the_method_with_a_head_and_a_phase_trains_a_network_that_a_plugin_brings() -> None:
    pair = PAIR | {"student": "my_tiny_net"}
    result = compressor.distill(method="embedding_hint", **pair, settings=SHORT | {"method.hint_epochs": 1})
    assert result.document()["student"]["architecture"] == "my_tiny_net"
    published = (result.student_folder / "config.json").read_text(encoding="utf-8")
    assert "projector" not in published
    assert "my_networks" in published
    assert result.model is not None
    assert set(result.model.state_dict()) == {
        f"{layer}.{kind}" for layer in ("stem", "body", "fc") for kind in ("weight", "bias")
    }


@pytest.mark.usefixtures("plugin")
def test_the_network_of_the_page_shows_what_methods_ask_for() -> None:
    assert check_architecture("my_tiny_net") == []
    network = create_model("my_tiny_net", num_classes=7)
    output = TappedModel(network, owner="student")(torch.zeros(2, 3, 8, 8), Wanted(True, True, True))
    assert output.logits.shape == (2, 7)
    assert [tuple(stage.shape) for stage in output.stages] == [(2, 16, 8, 8), (2, 32, 4, 4)]
    assert all(torch.equal(before.relu(), after) for before, after in zip(output.preacts, output.stages, strict=True))
    assert output.embedding.shape == (2, 32)


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
def test_a_network_of_ones_own_is_trained_and_published_with_the_way_to_build_it(tmp_path: Path) -> None:
    importlib.import_module("own_network")
    result = compressor.distill(
        method="kd", teacher="resnet14", student="own_network:small_net", data="digits", settings=SHORT
    )
    assert "own_network:small_net" in (result.student_folder / "config.json").read_text(encoding="utf-8")
    assert tmp_path in result.student_folder.absolute().parents


def test_every_block_of_python_on_a_page_can_be_compiled() -> None:
    counted = 0
    for page in sorted(DOCS.rglob("*.md")):
        for block in blocks(str(page.relative_to(DOCS)), "python"):
            compile(block, str(page), "exec")
            counted += 1
    assert counted >= 5
