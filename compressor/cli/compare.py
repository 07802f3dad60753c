"""``compress compare``: methods x seeds for a pair of networks, in one loop, then a table."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressor.cli.command import Ask, command
from compressor.cli.faults import fault_of
from compressor.cli.help import MAIN
from compressor.cli.options import RUN, without
from compressor.cli.sweeps import run_sweep, sweepable, take_sweep
from compressor.comparison.contenders import equal_label
from compressor.comparison.gate import parse
from compressor.config.settings import BASELINE
from compressor.errors import GateError, UsageError

if TYPE_CHECKING:
    from compressor.comparison.grid import Comparison
    from compressor.config.settings import RunConfig

PANEL = "Comparison"
EXAMPLES = (
    "compress compare --methods kd,crd,sskd --seeds 3",
    "compress compare --methods kd,sskd -t resnet32x4 -s resnet8x4 --epochs 5 --fail-under 'sskd>=kd'",
    "compress compare --methods kd --pairs resnet32x4:resnet8x4,wrn_40_2:wrn_16_2",
    "compress compare --methods kd,sskd --fraction 25,50,75,100",
    "compress compare runs/A runs/B runs/C",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "compare", examples=EXAMPLES, settings=sweepable(without("method", "seed")), panel=MAIN)(compare)


def compare(
    ask: Ask,
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN", help="Finished runs, instead of a grid.")] = None,
    methods: Annotated[
        str,
        typer.Option("--methods", metavar="A,B", rich_help_panel=PANEL, help="Methods.", show_default="kd,crd,sskd"),
    ] = "kd,crd,sskd",
    pairs: Annotated[
        str,
        typer.Option("--pairs", metavar="T:S,T:S", rich_help_panel=PANEL, help="Pairs of teacher and student."),
    ] = "",
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", rich_help_panel=PANEL, help="Seeds 0 to N - 1.", show_default="3")
    ] = 3,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="NAME",
            rich_help_panel=PANEL,
            help="What others are compared with.",
            show_default="scratch",
        ),
    ] = None,
    equal_compute: Annotated[
        bool,
        typer.Option(
            "--equal-compute/--no-equal-compute",
            rich_help_panel=PANEL,
            help="Beside methods that look at several views of each image, also train kd on as many.",
            show_default="yes",
        ),
    ] = True,
    fail_under: Annotated[
        str | None,
        typer.Option(
            "--fail-under",
            metavar="CONDITION",
            rich_help_panel=PANEL,
            help="Exit 6 unless it holds, such as 'sskd>=kd'.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            rich_help_panel=RUN,
            help="Folder of tables and cells.",
            show_default="compare-...",
        ),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", rich_help_panel=RUN, help="Print each setting and where it comes from.")
    ] = False,
) -> None:
    """Compare methods over several seeds.

    Ends with a table and report.html, one page with pictures that needs no network. The student without a teacher
    (scratch) is always a row. Cells of one teacher and seed run in one loop over one teacher pass; finished cells are
    only read, a failed one is a row with its reason and exit code 5 at the end.
    Several values for --shots, --fraction, --label-noise or --imbalance, as in 25,50,100, make a comparison for each
    and a picture of accuracy against the value.
    """
    if runs:
        made = _of_runs(ask, runs, baseline, out)
    else:
        ask, swept = take_sweep(ask)
        resolved = ask.given.resolved()
        if print_config:
            from compressor.cli.distill import show_config

            show_config(ask.output, resolved)
            return
        names = _words(methods, "--methods")
        if fail_under is not None:
            parse(fail_under, [*names, BASELINE, *map(equal_label, range(2, 5))])
        both = _pairs(pairs)
        if swept is not None:
            code = run_sweep(ask, swept, names, seeds, both, baseline, out, fail_under, equal_compute=equal_compute)
            raise typer.Exit(code)
        made = _of_grid(ask, resolved.config, names, seeds, both, baseline, out, equal_compute=equal_compute)
    failure = None if fail_under is None else _gate(made, fail_under)
    _tell(ask, made, failure)
    if failure is not None:
        ask.output.fail(fault_of(failure), documented=True)
        raise typer.Exit(failure.exit_code)
    if made.exit_code:
        raise typer.Exit(made.exit_code)


def _of_runs(ask: Ask, runs: list[Path], baseline: str | None, out: Path | None) -> "Comparison":
    from compressor.comparison.grid import compare_runs

    chosen = {} if baseline is None else {"baseline": baseline}
    return compare_runs(runs, out=out, command=ask.line, **chosen)


def _of_grid(
    ask: Ask,
    config: "RunConfig",
    methods: list[str],
    seeds: int,
    pairs: list[tuple[str, str]] | None,
    baseline: str | None,
    out: Path | None,
    *,
    equal_compute: bool,
) -> "Comparison":
    from compressor.cli.distill import begin
    from compressor.cli.listeners import listening

    def config_for(overrides: Mapping[str, Any]) -> "RunConfig":
        return ask.given.resolved(overrides).config

    for teacher, student in pairs or []:
        begin_names(config_for({"teacher.name": teacher, "student.name": student}), methods)
    begin(ask, config, methods, seeds)
    from compressor.comparison.grid import compare as compare_grid

    chosen: dict[str, Any] = {} if baseline is None else {"baseline": baseline}
    with listening(ask.output, many=True) as listener:
        return compare_grid(
            config_for,
            methods=methods,
            seeds=seeds,
            pairs=pairs,
            equal_compute=equal_compute,
            out=out,
            listener=listener,
            command=ask.line,
            **chosen,
        )


def begin_names(config: "RunConfig", methods: list[str]) -> None:
    """Check the names of one pair before anything heavy is imported."""
    from compressor.cli.names import check_names

    check_names(config, methods)


def _gate(made: "Comparison", condition: str) -> GateError | None:
    from compressor.comparison.gate import check

    try:
        check(made, condition)
    except GateError as failure:
        return failure
    return None


def _tell(ask: Ask, made: "Comparison", failure: GateError | None) -> None:
    from compressor.cli.tables import comparison_table, comparison_tsv

    output = ask.output
    if output.manner.json:
        gate = fault_of(failure).document() | {"gate": failure.message} if failure is not None else {}
        output.document(made.document() | gate)
        return
    if output.manner.quiet:
        output.result(str(made.folder) if made.folder is not None else comparison_tsv(made.rows))
        return
    shown = (
        comparison_table(made.rows, made.baseline, output.columns) if output.rich_tables else comparison_tsv(made.rows)
    )
    output.result(shown)
    output.talk(textwrap.fill(made.verdict, output.columns) if output.terminal else made.verdict)
    if made.folder is not None:
        output.talk(f"report: {made.folder / 'report.html'}   table: {made.folder / 'table.csv'}")


def _words(text: str, option: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UsageError(f"{option} {text!r} has an empty name in it", hint="compress list methods")
    return words


def _pairs(text: str) -> list[tuple[str, str]] | None:
    if not text:
        return None
    pairs = []
    for word in _words(text, "--pairs"):
        teacher, colon, student = word.rpartition(":")
        if not (teacher and colon and student):
            raise UsageError(f"--pairs {word!r} is not TEACHER:STUDENT", hint="for example resnet32x4:resnet8x4")
        pairs.append((teacher, student))
    return pairs
