"""Every method of ours has a page, whose table of settings is that of the code."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from compressor.registry import METHODS, load_method, names
from compressor_plugins.sskd import WEIGHTINGS

PAGES = Path(__file__).parents[2] / "docs" / "methods"
OURS = sorted(name for name, (entry, *_) in names(METHODS).items() if entry.value.startswith("compressor_plugins."))
_ROW = re.compile(r"^\| `(\w+)` \| `([^`]*)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def as_written(value: Any) -> str:
    if value is None:
        return "none"
    return str(list(value)) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize("name", OURS)
def test_the_table_of_settings_is_that_of_the_code(name: str) -> None:
    rows = _ROW.findall((PAGES / f"{name}.md").read_text(encoding="utf-8"))
    written = [(setting, default) for setting, default, _, _ in rows]
    assert written == [(item.name, as_written(item.default)) for item in fields(load_method(name).Config)]


@pytest.mark.parametrize("name", OURS)
def test_a_default_lies_in_the_range_that_the_page_gives(name: str) -> None:
    rows = _ROW.findall((PAGES / f"{name}.md").read_text(encoding="utf-8"))
    assert rows
    for setting, default, allowed, _ in rows:
        if default in ("none",) or default.startswith("["):
            continue
        inside = {
            "> 0": lambda text: float(text) > 0,
            ">= 0": lambda text: float(text) >= 0,
            ">= 1": lambda text: int(text) >= 1,
            "[0, 1)": lambda text: 0 <= float(text) < 1,
            "[0, 1]": lambda text: 0 <= float(text) <= 1,
        }.get(allowed, lambda text, choices=allowed: text in choices.split(", "))
        assert inside(default), setting


def test_the_table_of_weightings_is_that_of_the_code() -> None:
    text = (PAGES / "sskd.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", text, re.MULTILINE)
    assert {name: tuple(map(float, weights)) for name, *weights in rows} == {
        name: tuple(weights.values()) for name, weights in WEIGHTINGS.items()
    }


def test_the_index_links_a_page_for_each() -> None:
    index = (PAGES / "index.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` .*\(\1\.md\) \|$", index, re.MULTILINE)) == OURS
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted([*OURS, "index"])
