"""``compress distill``: train one student from one teacher."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressor.cli.command import Ask, command
from compressor.cli.help import MAIN
from compressor.cli.names import check_names
from compressor.cli.options import RUN, SETTINGS
from compressor.cli.output import Output
from compressor.cli.summary import Spent, done_block, done_line, next_compare, rehearsed
from compressor.cli.versions import versions
from compressor.cli.wording import stamp

if TYPE_CHECKING:
    from compressor.config.layers import Resolved
    from compressor.config.settings import RunConfig
    from compressor.engine.results import RunResult

EXAMPLES = (
    "compress distill",
    "compress distill -m kd -t resnet32x4 -s resnet8x4 -d digits --epochs 5",
    "compress distill -m kd --set method.kd_temperature=2 --dry-run",
    "compress distill --config mine.toml --print-config",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "distill", examples=EXAMPLES, settings=SETTINGS, panel=MAIN)(distill)


def distill(
    ask: Ask,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", rich_help_panel=RUN, help="Folder of the run.", show_default="runs/..."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", rich_help_panel=RUN, help="Set an earlier run in that folder aside.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", rich_help_panel=RUN, help="Check everything, take two steps, estimate, write nothing."
        ),
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", rich_help_panel=RUN, help="Print each setting and where it comes from.")
    ] = False,
) -> None:
    """Train one student from one teacher.

    The same command goes on where it stopped, and returns at once when it is finished. Without any option SSKD
    teaches a ShuffleNetV2 on the digits that come with scikit-learn. A teacher that the bank does not have is
    trained first, once.
    """
    resolved = ask.given.resolved()
    if print_config:
        show_config(ask.output, resolved)
        return
    config = resolved.config
    check_names(config, None)
    if not fresh and not dry_run and _told_before(ask, config, out):
        return
    begin(ask, config)
    if dry_run:
        _rehearse(ask, config)
        return
    _distill(ask, config, out, fresh)


def _told_before(ask: Ask, config: "RunConfig", out: Path | None) -> bool:
    """Tell the result of a run that is finished already, at once: torch is not imported."""
    from compressor.engine.folders import default_folder, finished
    from compressor.engine.results import RunResult

    folder = out or default_folder(config)
    values = finished(folder, config)
    if values is None:
        return False
    ask.output.talk(f"Run {folder} is already complete." if ask.output.terminal else f"run {folder} already complete")
    _tell(ask.output, config, RunResult(values), Spent(0.0, 0.0, before=True))
    return True


def begin(ask: Ask, config: "RunConfig", methods: list[str] | None = None, seeds: int = 1) -> None:
    """Check names, say who is at work, and prepare the process; imports torch."""
    from compressor.cli.process import physical_cores, prepare_process

    check_names(config, methods)
    known = versions("torch", "timm")
    threads = config.runtime.threads or physical_cores()
    drawn = f"seed {config.seed}" if methods is None else f"seeds 0 to {seeds - 1}"
    line = "  ".join(f"{name} {number}" for name, number in known.items() if name != "python")
    line = f"{line}  {config.runtime.device} x{threads} threads  {drawn}"
    ask.output.talk(line if ask.output.terminal else f"{stamp(time.time())} {line}")
    prepare_process(config.runtime.threads, plain=config.runtime.plain)


def show_config(output: Output, resolved: "Resolved") -> None:
    """Print the settings: TOML that ``--config`` reads, each line with its origin."""
    from compressor.config.document import dotted, to_toml

    if output.manner.json:
        values = dotted(resolved.config)
        origins = {key: resolved.origins.get(key, "default") for key in values}
        output.document({"schema": 1, "config": values, "origins": origins, "recipes": list(resolved.recipes)})
    else:
        output.result(to_toml(resolved.config, resolved.origins).rstrip())


def _distill(ask: Ask, config: "RunConfig", out: Path | None, fresh: bool) -> None:
    from compressor.cli.faults import kept
    from compressor.cli.listeners import listening
    from compressor.engine.folders import default_folder
    from compressor.engine.runs import distill as distill_run

    began, folder = time.monotonic(), out or default_folder(config)
    with kept(folder), listening(ask.output) as listener:
        result = distill_run(config, out=folder, fresh=fresh, listener=listener, command=ask.line)
    spent = Spent(time.monotonic() - began, time.process_time(), before=result.model is None)
    _tell(ask.output, config, result, spent)


def _tell(output: Output, config: "RunConfig", result: "RunResult", spent: Spent) -> None:
    document = result.document()
    if output.manner.json:
        output.document(document)
        return
    if output.terminal:
        following = next_compare(document, config.data.source, config.teacher.name, config.student.name)
        output.talk(done_block(document, spent, next_command=following))
    else:
        output.talk(f"{stamp(time.time())} {done_line(document, spent)}")
    if output.shows_result:
        output.result(str(result.student_folder))


def _rehearse(ask: Ask, config: "RunConfig") -> None:
    from compressor.cli.listeners import listening
    from compressor.engine.rehearsal import rehearse

    with listening(ask.output) as listener:
        rehearsal = rehearse(config, listener=listener)
    if ask.output.manner.json:
        ask.output.document(rehearsal.document())
    elif ask.output.manner.quiet:
        ask.output.result(rehearsal.folder)
    else:
        ask.output.result(rehearsed(rehearsal))
