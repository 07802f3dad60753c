"""Recipes: TOML files that hold what differs from the defaults, found through entry points.

A recipe with a ``[when]`` table applies by itself when every condition holds: each is a pattern, or a list of them, for
``data``, ``method``, ``teacher`` or ``student``. Recipes with more conditions win over those with fewer. A recipe
without ``[when]`` is taken by name, after those it ``extends``. ``summary`` is its one-line meaning.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compressor.config.settings import flatten
from compressor.errors import PluginError, UsageError, suggestion
from compressor.registry import entry_points

GROUP = "compressor.recipes"
_CONDITIONS = {"data", "method", "teacher", "student"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recipe file: dotted keys and values, and when it applies."""

    name: str
    summary: str
    package: str
    values: Mapping[str, Any]
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    by_name: bool = True
    extends: tuple[str, ...] = ()

    def applies(self, selection: Mapping[str, str]) -> bool:
        """Say whether every condition holds for ``selection`` (data, method, teacher and student names)."""
        return not self.by_name and all(
            any(fnmatchcase(selection[key], pattern) for pattern in patterns) for key, patterns in self.when.items()
        )


@cache
def all_recipes() -> Mapping[str, Recipe]:
    """Read the recipes of every installed package.

    Raises:
        PluginError: a file is no TOML, has an unknown condition, or two packages use one name.
    """
    found: dict[str, Recipe] = {}
    for entry in entry_points(GROUP):
        for file in sorted(_folder(entry.value).glob("*.toml")):
            recipe = _read(file.stem, file.read_text(encoding="utf-8"), entry.value)
            if recipe.name in found:
                raise PluginError(f"recipe {recipe.name!r} is in both {found[recipe.name].package} and {entry.value}")
            found[recipe.name] = recipe
    return found


def automatic(selection: Mapping[str, str]) -> tuple[Recipe, ...]:
    """Return the recipes that apply by themselves, weakest (fewest conditions) first."""
    applying = [recipe for recipe in all_recipes().values() if recipe.applies(selection)]
    return tuple(sorted(applying, key=lambda recipe: (len(recipe.when), recipe.name)))


def named(name: str) -> tuple[Recipe, ...]:
    """Return the recipe called ``name`` behind those it extends, weakest first.

    Raises:
        UsageError: no recipe of that name.
    """
    recipes = all_recipes()
    by_name = {key for key, recipe in recipes.items() if recipe.by_name}
    if name not in by_name:
        raise UsageError(f"no recipe named {name!r}", hint=suggestion(name, by_name) or "compress list recipes")
    recipe = recipes[name]
    chain = {ancestor.name: ancestor for parent in recipe.extends for ancestor in named(parent)}
    return (*chain.values(), recipe)


def _folder(package: str) -> Path:
    """Find a package's folder without importing the package, which might import torch."""
    root, *below = package.split(".")
    spec = find_spec(root)
    if spec is None or not spec.submodule_search_locations:
        raise PluginError(f"recipes of {package!r}: there is no such package")
    return Path(spec.submodule_search_locations[0]).joinpath(*below)


def _read(name: str, text: str, package: str) -> Recipe:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:
        raise PluginError(f"recipe {name!r} of {package} is no TOML: {cause}") from cause
    by_name = "when" not in tree
    when = tree.pop("when", {})
    unknown = set(when) - _CONDITIONS
    if unknown:
        raise PluginError(f"recipe {name!r} of {package}: unknown condition {sorted(unknown)[0]!r} in [when]")
    return Recipe(
        name=name,
        summary=str(tree.pop("summary", "")),
        package=package,
        extends=tuple(tree.pop("extends", ())),
        when={key: (value,) if isinstance(value, str) else tuple(value) for key, value in when.items()},
        by_name=by_name,
        values=flatten(tree),
    )
