"""``compress list``: names, one-line meanings, and who brings them. Nothing heavy is imported."""

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from compressor.cli.command import Ask, command
from compressor.cli.tables import aligned, tab_separated
from compressor.errors import suggestion

Kind = Literal["methods", "models", "data", "teachers", "recipes"]
EXAMPLES = (
    "compress list methods",
    "compress list models 'resnet*'",
    "compress list recipes cifar100 --json",
)


@dataclass(frozen=True)
class Item:
    """One name; ``also`` is another that a filter may mean."""

    name: str
    meaning: str
    package: str
    also: str = ""

    def matches(self, pattern: str) -> bool:
        """Say whether a filter means this."""
        return any(name and _matches(name, pattern) for name in (self.name, self.also))

    def fields(self) -> tuple[str, str, str]:
        """Return what is shown."""
        return self.name, self.meaning, self.package

    def columns(self) -> tuple[str, str, str]:
        """Return what is shown on a terminal, where the end of a line may be cut."""
        return self.name, self.package, self.meaning


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "list", examples=EXAMPLES)(listing)


def listing(
    ask: Ask,
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="methods, models, data, teachers or recipes.")],
    filter: Annotated[  # noqa: A002  # the word users read
        str | None, typer.Argument(metavar="FILTER", help="A part of the name, or a pattern such as 'resnet*'.")
    ] = None,
) -> None:
    """List what there is: methods, models, data, teachers or recipes."""
    everything = _SOURCES[kind]()
    items = [item for item in everything if filter is None or item.matches(filter)]
    output = ask.output
    if output.manner.json:
        fields = [{"name": item.name, "meaning": item.meaning, "package": item.package} for item in items]
        output.document({"schema": 1, "kind": kind, "items": fields})
    elif output.manner.quiet:
        output.result("\n".join(item.name for item in items))
    elif not items:
        near = "" if filter is None else suggestion(filter, (item.name for item in everything))
        output.talk(f"no {kind}" + ("" if filter is None else f" like {filter!r}") + (f"; {near}" if near else ""))
    elif output.rich_tables:
        output.result(aligned(("name", "from", "meaning"), [item.columns() for item in items], output.columns))
    else:
        output.result(tab_separated(("name", "meaning", "package"), [item.fields() for item in items]))


def methods() -> Iterable[Item]:
    """Return every method; its meaning is the first line of its module, which is read and not run."""
    from compressor.registry import METHODS, names

    for name, entries in names(METHODS).items():
        for entry in entries:
            yield Item(name, _meaning(entry.value), entry.package)


def models() -> Iterable[Item]:
    """Return the networks of packages, under the shortest name that is not ambiguous, then timm's."""
    from compressor.models.catalogue import plugin_names, short_names, timm_names, timm_version

    known, brought_by = timm_names(), f"timm {timm_version()}"
    for name, entries in sorted(plugin_names().items()):
        short = name.partition("_")[2]
        alone = short_names().get(short) == (name,) and short not in known
        meaning = f"registered with timm as {name}" if alone else f"{short!r} alone is ambiguous"
        yield Item(short if alone else name, meaning, entries[0].package, also=short)
    for name in sorted(known):
        yield Item(name, "", brought_by)


def data() -> Iterable[Item]:
    """Return the kinds of data."""
    from compressor.data.catalogue import describe_sources

    return [Item(source.name, source.meaning, "compress") for source in describe_sources()]


def teachers() -> Iterable[Item]:
    """Return the teachers of the bank; only their descriptions are read."""
    from compressor.cache import cache_folder
    from compressor.storage import is_complete, read_json

    root = cache_folder() / "teachers"
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if is_complete(folder) and (folder / "teacher.json").is_file():
            value: Mapping[str, Any] = read_json(folder / "teacher.json")
            yield Item(
                str(value["name"]), f"{value['data']}, top-1 {value['top1']:.1f}, {value['origin']}", str(folder)
            )


def recipes() -> Iterable[Item]:
    """Return the recipes of all packages."""
    from compressor.config.recipes import all_recipes

    for name, recipe in sorted(all_recipes().items()):
        when = "" if recipe.by_name else " (by itself)"
        yield Item(name, recipe.summary + when, recipe.package)


_SOURCES: Mapping[str, Callable[[], Iterable[Item]]] = {
    "methods": lambda: list(methods()),
    "models": lambda: list(models()),
    "data": data,
    "teachers": lambda: list(teachers()),
    "recipes": lambda: list(recipes()),
}


def _matches(name: str, pattern: str) -> bool:
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(name.lower(), pattern.lower())
    return pattern.lower() in name.lower()


def _meaning(value: str) -> str:
    """Return the first line of an entry point's module, or of its class where the module has none."""
    module, _, attribute = value.partition(":")
    file = _source(module)
    if file is None:
        return ""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return "cannot be read: compress plugins check"
    nodes: list[ast.Module | ast.ClassDef] = [tree]
    nodes += [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == attribute]
    for node in nodes:
        text = ast.get_docstring(node)
        if text:
            return " ".join(text.split("\n\n")[0].split())
    return ""


def _source(module: str) -> Path | None:
    """Find a module's file without importing its package, which might import torch."""
    root, *below = module.split(".")
    try:
        spec = find_spec(root)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not spec.submodule_search_locations:
        return Path(spec.origin) if spec.origin else None
    place = Path(spec.submodule_search_locations[0]).joinpath(*below)
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)
