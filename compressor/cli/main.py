"""What ``compress`` does: parses, runs one command, turns whatever goes wrong into two lines and an exit code."""

import io
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import typer

from compressor.cli.command import sign_group
from compressor.cli.faults import INTERRUPTED, fault_of
from compressor.cli.help import PlainGroup
from compressor.cli.manner import read_manner
from compressor.cli.options import variable
from compressor.cli.output import Output, silence
from compressor.cli.versions import versions
from compressor.ranks import is_main_process

COMMANDS = (
    "distill",
    "compare",
    "reproduce",
    "publish",
    "evaluate",
    "probe",
    "show",
    "listing",
    "teach",
    "plugins",
    "doctor",
    "init",
    "convert",
)
_ABOUT = """Distil a heavy image classifier into a small one that loses little.

Options may stand before or behind the command; each has an environment variable COMPRESS_OPTION.
Exit codes: 0 done, 1 a bug of ours, 2 usage, 3 bad input, 4 storage, 5 training failed, 6 gate not met,
130 or 143 stopped and saved."""
_EXAMPLES = """compress distill
compress distill -m kd -t resnet32x4 -s resnet8x4 -d digits --epochs 5
compress compare --methods kd,sskd --seeds 3
compress list methods"""


def main(arguments: Sequence[str], output: Output | None = None) -> int:
    """Run one command.

    Args:
        arguments: behind the program's name. output: where to speak; None takes the process's streams.

    Returns:
        The exit code.
    """
    output = _output(arguments) if output is None else output
    try:
        command = _command()
        for warning in misspelt(command, os.environ):
            output.warn(warning)
        code = command.main(args=list(arguments), prog_name="compress", standalone_mode=False, obj=output)
    except BrokenPipeError:  # the reader of a help page has gone
        silence(sys.stdout)
        return 0
    except SystemExit as left:  # shell completion ends so
        return left.code if isinstance(left.code, int) else 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the last one who can tell the user
        fault = fault_of(error)
        output.fail(fault)
        return fault.exit
    if code == INTERRUPTED:  # the parser swallows Ctrl-C
        output.fail(fault_of(KeyboardInterrupt()))
    return code if isinstance(code, int) else 0


def misspelt(command: Any, environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable that looks like one of ours but is none; others' are left alone."""
    ours = {*variables(command), "COMPRESS_CONFIG", "COMPRESS_SET"}
    strange = sorted(name for name in environ if name.startswith("COMPRESS_") and name not in ours)
    near = [(name, get_close_matches(name, ours, n=1, cutoff=0.9)) for name in strange]
    return [f"{name} is not read; did you mean {words[0]}?" for name, words in near if words]


def variables(command: Any) -> set[str]:
    """Return the environment variables of all options of a command and the commands in it."""
    found = {
        variable(name.removeprefix("--"))
        for item in command.params
        for name in getattr(item, "opts", ())
        if name.startswith("--")
    }
    return found.union(*(variables(inner) for inner in getattr(command, "commands", {}).values()))


def application() -> typer.Typer:
    """Return the application with all its commands; the reference page is made from it."""
    app = typer.Typer(
        name="compress",
        cls=PlainGroup,
        help=_ABOUT,
        epilog=_EXAMPLES,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(sign_group(_without_command))
    for name in COMMANDS:
        import_module(f"compressor.cli.{name}").register(app)
    return app


def _command() -> Any:
    return typer.main.get_command(application())


def _without_command(context: typer.Context, version: bool) -> None:
    output: Output = context.obj
    if version:
        known = versions()
        if output.manner.json:
            output.document({"schema": 1, "versions": known})
        else:
            output.result("  ".join(f"{name} {number}" for name, number in known.items()))
        raise typer.Exit
    if context.invoked_subcommand is None:
        output.result(context.get_help().rstrip())
        raise typer.Exit


def _output(arguments: Sequence[str]) -> Output:
    manner = read_manner(arguments, os.environ)
    if is_main_process():
        return Output(manner)
    # One voice for many processes: the others tell their errors and nothing else.
    return Output(replace(manner, quiet=True, json=False), stdout=io.StringIO())
