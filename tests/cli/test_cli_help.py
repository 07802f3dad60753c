"""Every help page shows examples and every option; it is plain text."""

import shlex
from typing import Any

import pytest
import typer

from compressor.cli.main import application, variables
from compressor.cli.options import PANELS, SETTINGS, Setting

ROOT: Any = typer.main.get_command(application())
PAGES = {(name,): command for name, command in ROOT.commands.items()} | {
    ("plugins", name): command for name, command in ROOT.commands["plugins"].commands.items()
}


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_a_help_page_shows_examples_and_every_option(path: tuple[str, ...], compress: Any) -> None:
    said = _help(compress, path)
    assert "Examples:\n  compress " in said
    for item in PAGES[path].params:
        for name in item.opts:
            if name.startswith("-"):
                assert name in said, name
    for name in ("--json", "--quiet", "--verbose", "--color", "--no-progress", "--debug", "--help"):
        assert name in said


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_a_help_page_is_plain_and_fits_the_terminal(path: tuple[str, ...], compress: Any) -> None:
    page = _help(compress, path)
    assert "\x1b" not in page
    assert not set("╭╮╰╯│─") & set(page)
    examples = [line for line in page.splitlines() if line.startswith("  compress ")]
    assert all(len(line) <= 80 for line in page.splitlines() if line not in examples)


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_examples_use_only_options_that_the_command_has(path: tuple[str, ...]) -> None:
    command = PAGES[path]
    known = {name for item in command.params for name in (*item.opts, *item.secondary_opts)}
    assert command.epilog
    for line in command.epilog.splitlines():
        words = shlex.split(line)
        assert words[:2] == ["compress", path[0]]
        assert {word for word in words if word.startswith("-")} <= known, line


def test_panels_of_distill_stand_in_the_agreed_order(compress: Any) -> None:
    page = _help(compress, ("distill",))
    titles = [line.removesuffix(":") for line in page.splitlines() if line.endswith(":") and line[0] != " "]
    assert titles == ["Examples", *PANELS]


def test_the_overview_names_every_command(compress: Any) -> None:
    page = _help(compress, ())
    for name in ROOT.commands:
        assert f"\n  {name} " in page
    assert page.index("Main commands") < page.index("\n  distill ") < page.index("\n  compare ") < page.index("More")


def test_no_argument_shows_the_overview(compress: Any) -> None:
    said = compress()
    assert said.code == 0
    assert said.out.startswith("Distil a heavy image classifier")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.option)
def test_every_setting_names_a_key_that_exists(setting: Setting) -> None:
    from compressor.config.layers import checked

    assert checked({setting.key: None}, origin="test")
    assert setting.shown_default()


def test_every_option_has_a_variable_of_its_own() -> None:
    assert len({setting.variable for setting in SETTINGS}) == len(SETTINGS)
    assert {"COMPRESS_LR", "COMPRESS_BATCH_SIZE", "COMPRESS_OUT", "COMPRESS_METHODS"} <= variables(ROOT)


def _help(compress: Any, path: tuple[str, ...]) -> str:
    import contextlib
    import io

    page = io.StringIO()
    with contextlib.redirect_stdout(page):
        said = compress(*path, "--help")
    assert said.code == 0
    return page.getvalue() + said.out
