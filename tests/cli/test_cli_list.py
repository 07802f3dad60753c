"""`compress list`: names, meanings and owners, in three forms."""

import json
from pathlib import Path
from typing import Any

import pytest

from compressor.cli.listing import _meaning

KINDS = ("methods", "models", "data", "recipes")


@pytest.mark.parametrize("kind", KINDS)
def test_three_forms_of_a_list_name_the_same_things(kind: str, compress: Any) -> None:
    document = json.loads(compress("list", kind, "--json").out)
    names = [item["name"] for item in document["items"]]
    assert (document["schema"], document["kind"]) == (1, kind)
    assert compress("list", kind, "-q").out.splitlines() == names
    rows = [line.split("\t") for line in compress("list", kind).out.splitlines()]
    assert rows[0] == ["name", "meaning", "package"]
    assert [row[0] for row in rows[1:]] == names


def test_a_list_on_a_terminal_fits_it(compress: Any) -> None:
    lines = compress("list", "recipes", terminal=True).out.splitlines()
    assert lines[0].split() == ["name", "from", "meaning"]
    assert max(map(len, lines)) <= 80


def test_models_are_listed_under_names_that_distill_takes(compress: Any) -> None:
    from compressor.models.catalogue import resolve_name

    items = json.loads(compress("list", "models", "--json").out)["items"]
    ours = [item["name"] for item in items if not item["package"].startswith("timm ")]
    assert "resnet32x4" in ours
    assert "cifar_vgg13" in ours
    assert {resolve_name(name).kind for name in ours} == {"plugin"}
    assert "vgg13" in {item["name"] for item in items if item["package"].startswith("timm ")}


def test_a_filter_is_a_part_of_the_name_or_a_pattern(compress: Any) -> None:
    assert compress("list", "data", "torch", "-q").out.split() == ["torch/NAME"]
    named = set(compress("list", "models", "vgg1?", "-q").out.split())
    assert named == {"vgg11", "vgg13", "vgg16", "vgg19", *(f"cifar_vgg{depth}" for depth in (11, 13, 16, 19))}
    assert compress("list", "methods", "SSK", "-q").out.split() == ["sskd"]
    missing = compress("list", "methods", "fitnett")
    assert (missing.code, missing.out, missing.err) == (0, "", "no methods like 'fitnett'; did you mean fitnet?\n")


def test_teachers_of_the_bank_are_listed_when_they_are_complete(compress: Any, tmp_path: Path) -> None:
    from compressor.storage import MANIFEST

    for name in ("whole", "unfinished"):
        folder = tmp_path / "cache" / "compress" / "teachers" / name
        folder.mkdir(parents=True)
        described = {"name": name, "data": "digits", "top1": 97.21, "origin": "trained here"}
        (folder / "teacher.json").write_text(json.dumps(described))
    (tmp_path / "cache" / "compress" / "teachers" / "whole" / MANIFEST).write_text("{}")
    [item] = json.loads(compress("list", "teachers", "--json").out)["items"]
    assert item["name"] == "whole"
    assert item["meaning"] == "digits, top-1 97.2, trained here"


def test_the_meaning_of_a_method_is_read_without_running_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "strange_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "first.py").write_text('"""Of the\nmodule.\n\nMore."""\nraise RuntimeError\n')
    (package / "second.py").write_text('class Second:\n    """Of the class."""\n')
    (package / "broken.py").write_text("def (:\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert _meaning("strange_plugin.first:First") == "Of the module."
    assert _meaning("strange_plugin.second:Second") == "Of the class."
    assert _meaning("strange_plugin.broken:X") == "cannot be read: compress plugins check"
    assert _meaning("strange_plugin.missing:X") == ""
    assert _meaning("no_such_package_at_all:X") == ""


def test_plugins_list_names_object_and_package(compress: Any) -> None:
    document = json.loads(compress("plugins", "list", "--json").out)
    rows = {(row["kind"], row["name"]): row for row in document["plugins"]}
    assert rows["method", "kd"]["object"] == "compressor_plugins.kd:KD"
    assert rows["architecture", "cifar_resnet8x4"]["package"].startswith("compress-kd ")
    assert ("recipes", "zoo") in rows
