"""A method of ours has a page, a place in the index, a recipe, tests of its own and a source, or it is not done."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from compressor.registry import METHODS, load_method, names

ROOT = Path(__file__).parents[2]
OURS = sorted(name for name, (entry, *_) in names(METHODS).items() if entry.value.startswith("compressor_plugins."))
COMPLETE: Mapping[str, str] = {
    "docs/methods/good.md": "# good",
    "docs/methods/index.md": "| `good` | all | nothing | B | [good](good.md) |\n",
    "tests/plugins/test_good.py": "",
    "zoo/compressor_zoo/recipes/good-cifar100.toml": '[when]\nmethod = "good"\n',
    "zoo/compressor_zoo/recipes/other.toml": '[when]\nmethod = ["a", "b"]\n',
}
NOT_ON_ARXIV = {"fsp"}
SOURCE = "Somebody et al. 2020, arXiv:2001.00001; needs logits."


def lacking(name: str, source: str | None, root: Path) -> list[str]:
    """Return what a method lacks: its name, its class's docstring, and the folder of the repository."""
    index = (root / "docs/methods/index.md").read_text(encoding="utf-8")
    there = {
        f"docs/methods/{name}.md": (root / f"docs/methods/{name}.md").is_file(),
        "a row in docs/methods/index.md": bool(re.search(rf"^\| `{name}` .*\({name}\.md\) \|$", index, re.MULTILINE)),
        f"zoo/compressor_zoo/recipes/{name}-cifar100.toml": has_recipe(name, root / "zoo/compressor_zoo/recipes"),
        f"tests/plugins/test_{name}.py": (root / f"tests/plugins/test_{name}.py").is_file(),
        "a source (arXiv number) in the class's docstring": has_source(name, source or ""),
    }
    return [what for what, present in there.items() if not present]


def has_source(name: str, docstring: str) -> bool:
    """Say whether a docstring names a paper: by its arXiv number, or by where it appeared if it never was there."""
    pattern = r"(CVPR|ICCV|ECCV) \d{4}" if name in NOT_ON_ARXIV else r"arXiv:\d{4}\.\d{4,5}"
    return bool(re.search(pattern, docstring))


def has_recipe(name: str, folder: Path) -> bool:
    """Say whether a recipe is called after a method, or applies by itself where it runs."""
    if any(folder.glob(f"{name}-*.toml")):
        return True
    conditions = [tomllib.loads(file.read_text(encoding="utf-8")).get("when", {}) for file in folder.glob("*.toml")]
    return any(
        name in ([when["method"]] if isinstance(when["method"], str) else when["method"])
        for when in conditions
        if "method" in when
    )


@pytest.mark.parametrize("name", OURS)
def test_method_lacks_nothing(name: str) -> None:
    assert lacking(name, load_method(name).__doc__, ROOT) == []


def test_all_methods_that_the_project_promises_are_there() -> None:
    classics = {
        "scratch",
        "kd",
        "fitnet",
        "at",
        "sp",
        "vid",
        "rkd",
        "pkt",
        "ab",
        "ft",
        "fsp",
        "nst",
        "cc",
        "kdsvd",
        "crd",
    }
    assert set(OURS) >= classics | {"dkd", "dist", "reviewkd", "ofa", "simkd", "sskd", "hsakd", "hssakd"}


def test_papers_that_never_were_on_arxiv_are_few_and_named_by_their_conference() -> None:
    assert len(NOT_ON_ARXIV) == 1
    assert set(OURS) >= NOT_ON_ARXIV
    assert not has_source("fsp", "Somebody et al., 2017")


def plant(root: Path, leave_out: str | None = None) -> None:
    for path, text in COMPLETE.items():
        if path != leave_out:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")


def test_a_planted_method_that_is_complete_lacks_nothing(tmp_path: Path) -> None:
    plant(tmp_path)
    assert lacking("good", SOURCE, tmp_path) == []
    assert has_recipe("b", tmp_path / "zoo/compressor_zoo/recipes")


@pytest.mark.parametrize("path", [path for path in COMPLETE if "good" in path])
def test_a_planted_method_that_lacks_a_file_is_caught(path: str, tmp_path: Path) -> None:
    plant(tmp_path, leave_out=path)
    assert lacking("good", SOURCE, tmp_path) == [path]


@pytest.mark.parametrize("source", [None, "No source at all.", "arXiv"])
def test_a_planted_method_without_a_source_is_caught(source: str | None, tmp_path: Path) -> None:
    plant(tmp_path)
    assert lacking("good", source, tmp_path) == ["a source (arXiv number) in the class's docstring"]


def test_a_planted_method_that_the_index_does_not_link_is_caught(tmp_path: Path) -> None:
    plant(tmp_path)
    (tmp_path / "docs/methods/index.md").write_text(
        "| `good` | all | nothing | B | [bad](bad.md) |\n", encoding="utf-8"
    )
    assert lacking("good", SOURCE, tmp_path) == ["a row in docs/methods/index.md"]
