"""Every command line in the documentation is one that the application understands."""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from docs_pages import DOCS, ROOT, script, written_pages

from compressor import errors
from compressor.cli.main import application
from compressor.config.recipes import all_recipes
from compressor.registry import METHODS, names

PAGES = [*written_pages(), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
_FENCE = re.compile(r"^```\w*[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(compress [^`\n]+)`")


def command_lines(page: Path) -> list[list[str]]:
    """Return the words of each ``compress ...`` on a page, in blocks of code and in running text."""
    text = page.read_text(encoding="utf-8")
    lines = [line.removeprefix("$ ").strip() for block in _FENCE.findall(text) for line in block.splitlines()]
    found = []
    for line in [*lines, *_INLINE.findall(re.sub(_FENCE, "", text))]:
        start = re.match(r"^(?:PYTHONPATH=\S+ |student=\$\()?(compress (?!COMMAND|\d).*)$", line)
        if start:
            words = shlex.split(re.split(r"\) \|\|| > ", start[1])[0], comments=True)
            found.append(words[1:])
    return found


def command_of(root: Any, context: Any, words: list[str]) -> tuple[Any, list[str]]:
    command, rest = root, list(words)
    while hasattr(command, "list_commands") and rest and not rest[0].startswith("-"):
        following = command.get_command(context, rest[0])
        assert following is not None, f"no command {rest[0]!r}"
        command, rest = following, rest[1:]
    return command, rest


@pytest.fixture(scope="module")
def root() -> Any:
    return typer.main.get_command(application())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_option_on_a_page_exists(page: Path, root: Any) -> None:
    context = root.context_class(root, info_name="compress")
    for words in command_lines(page):
        command, rest = command_of(root, context, words)
        known = {name for item in command.get_params(context) for name in (*item.opts, *item.secondary_opts)}
        used = [word.partition("=")[0] for word in rest if re.match(r"^--?[a-z]", word)]
        assert set(used) <= known, f"{page.name}: compress {shlex.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_recipe_and_method_in_a_command_exists(page: Path) -> None:
    by_name = {name for name, recipe in all_recipes().items() if recipe.by_name}
    methods = names(METHODS).keys() | {"hard_labels", "embedding_hint", "NAME"}  # the tutorial makes two
    for words in command_lines(page):
        for option, value in pairwise(words):
            if option == "--recipe":
                assert value in by_name | {"NAME"}
            if option in ("-m", "--method"):
                assert value in methods
            if option == "--methods":
                assert set(value.split(",")) <= methods


def test_the_pages_hold_many_commands() -> None:
    assert sum(len(command_lines(page)) for page in PAGES) > 30
    assert ["distill", "-m", "kd", "-t", "resnet14", "-s", "own_network:small_net"] in command_lines(
        DOCS / "quickstart.md"
    )


def test_the_generated_page_is_current() -> None:
    assert (DOCS / "reference" / "cli.md").read_text(encoding="utf-8") == script("generate_cli").page(), (
        "python docs/generate_cli.py"
    )


def test_the_page_of_exit_codes_has_those_of_the_errors() -> None:
    text = (DOCS / "concepts" / "exit-codes.md").read_text(encoding="utf-8")
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert told == {0, 130, 143} | {kind.exit_code for kind in kinds}
