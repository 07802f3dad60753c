"""Every method of ours has a page, whose table of settings is that of the code."""

import re
from collections.abc import Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest

from compressor.registry import METHODS, load_method, names
from compressor.supervision import Lesson, Supervision
from compressor_plugins.sskd import WEIGHTINGS

PAGES = Path(__file__).parents[2] / "docs" / "methods"
OURS = sorted(name for name, (entry, *_) in names(METHODS).items() if entry.value.startswith("compressor_plugins."))
OTHERS = ["index", "logit-term"]
_ROW = re.compile(r"^\| `(\w+)` \| `([^`]*)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_NUMBER = r"(-?[\d.]+)"
_RANGES = {
    rf"> {_NUMBER}": lambda value, low: value > low,
    rf">= {_NUMBER}": lambda value, low: value >= low,
    rf"\[{_NUMBER}, {_NUMBER}\)": lambda value, low, high: low <= value < high,
    rf"\[{_NUMBER}, {_NUMBER}\]": lambda value, low, high: low <= value <= high,
    rf"\({_NUMBER}, {_NUMBER}\)": lambda value, low, high: low < value < high,
    rf"{_NUMBER} to {_NUMBER}": lambda value, low, high: low <= value <= high,
}


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def as_written(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


def shared(config: type) -> Mapping[str, Any]:
    """Return the settings with their defaults that a method takes over, which another page explains."""
    base = next((kind for kind in (Supervision, Lesson) if issubclass(config, kind)), None)
    return {} if base is None else {item.name: item.default for item in fields(base)}


def own(config: type) -> list[Field[Any]]:
    """Return the settings that a method's page lists: those of its own, and those whose default is another here."""
    known = shared(config)
    items: tuple[Field[Any], ...] = fields(config)
    return [item for item in items if item.name not in known or item.default != known[item.name]]


def allows(allowed: str, default: str) -> bool:
    """Say whether a default lies in a range as a page writes it: an interval, or choices with commas between."""
    for pattern, holds in _RANGES.items():
        bounds = re.fullmatch(pattern, allowed)
        if bounds:
            return bool(holds(float(default), *map(float, bounds.groups())))
    return default in allowed.split(", ")


@pytest.mark.parametrize("name", OURS)
def test_the_table_of_settings_is_that_of_the_code(name: str) -> None:
    written = [(setting, default) for setting, default, _, _ in _ROW.findall(page(name))]
    assert written == [(item.name, as_written(item.default)) for item in own(load_method(name).Config)]


@pytest.mark.parametrize("name", OURS)
def test_a_page_names_where_the_shared_settings_are_explained(name: str) -> None:
    assert ("(logit-term.md)" in page(name)) == bool(shared(load_method(name).Config))


def test_the_table_of_the_shared_settings_is_that_of_the_code() -> None:
    written = [(setting, default) for setting, default, _, _ in _ROW.findall(page("logit-term"))]
    assert written == [(item.name, as_written(item.default)) for item in fields(Supervision)]


@pytest.mark.parametrize("name", [*OURS, "logit-term"])
def test_a_default_lies_in_the_range_that_the_page_gives(name: str) -> None:
    for setting, default, allowed, _ in _ROW.findall(page(name)):
        if default != "none" or allowed.startswith("none, "):
            assert default.startswith("[") or allows(allowed, default), setting


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        ("> 0", "0.1", "0.0"),
        (">= 1", "1", "0.9"),
        ("[0, 1)", "0", "1"),
        ("(0, 1)", "0.5", "0"),
        ("[0, 1]", "1.0", "1.1"),
        ("1 to 4", "4", "5"),
        ("cifar, imagenet", "cifar", "digits"),
    ],
)
def test_ranges_are_read_as_they_are_written(allowed: str, inside: str, outside: str) -> None:
    assert allows(allowed, inside)
    assert not allows(allowed, outside)


def test_the_table_of_weightings_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", page("sskd"), re.MULTILINE)
    assert {name: tuple(map(float, weights)) for name, *weights in rows} == {
        name: tuple(weights.values()) for name, weights in WEIGHTINGS.items()
    }


def test_the_index_links_a_page_for_each() -> None:
    assert sorted(re.findall(r"^\| `(\w+)` .*\(\1\.md\) \|$", page("index"), re.MULTILINE)) == OURS
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted([*OURS, *OTHERS])


def test_the_site_lists_every_page() -> None:
    site = (PAGES.parents[1] / "mkdocs.yml").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^ +- methods/([\w-]+)\.md$", site, re.MULTILINE)) == sorted([*OURS, *OTHERS])
