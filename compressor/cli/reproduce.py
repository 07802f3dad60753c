"""``compress reproduce``: measure a row of the ledger again, or a published table, or record what was measured."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressor.cache import user_config_file
from compressor.cli.command import Ask, command
from compressor.cli.faults import fault_of
from compressor.cli.ledger import TABLE, judgement_lines, list_rows, table_lines
from compressor.cli.names import check_method, check_names
from compressor.cli.options import RUN, Setting, without
from compressor.errors import GateError, UsageError

if TYPE_CHECKING:
    from compressor.comparison.ledger.published import PublishedPair, PublishedTable
    from compressor.comparison.ledger.rows import Reproduction
    from compressor.comparison.ledger.tables import TableRun
    from compressor.config.settings import RunConfig

PANEL = "Ledger"
EXAMPLES = (
    "compress reproduce --list",
    "compress reproduce digits-resnet20-resnet8-kd",
    "compress reproduce sskd-table --pair resnet32x4:resnet8x4 --data-dir data",
    "compress reproduce sskd-table --pair all --methods kd,sskd --time-budget 9m",
    "compress reproduce --record compare-digits-resnet20-resnet8",
)
_METHODS = "kd,crd,sskd"
_NOT_OF_A_ROW = ("teacher", "teacher-weights", "student", "student-init", "method", "seed", "processes")


def _settings() -> tuple[Setting, ...]:
    """Return the settings of a run that a table leaves free, with help that says so."""
    changed: dict[str, dict[str, Any]] = {
        "data": {"default": "of the table"},
        "val-split": {"default": "of the recipe"},
        "watch-test": {"default": "as recorded; yes"},
        "epochs": {"help": "Of a table: times the images are seen, by student and teacher."},
    }
    return tuple(replace(item, **changed.get(item.option, {})) for item in without(*_NOT_OF_A_ROW))


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "reproduce", examples=EXAMPLES, settings=_settings())(reproduce)


def reproduce(
    ask: Ask,
    row: Annotated[
        str | None,
        typer.Argument(metavar="ROW", help="Row of the ledger, a record's .json file, or a table such as sskd-table."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", rich_help_panel=PANEL, help="Show the rows and stop.")] = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds", metavar="N", rich_help_panel=PANEL, help="Seeds 0 to N - 1.", show_default="as recorded; 3"
        ),
    ] = None,
    pair: Annotated[
        str,
        typer.Option("--pair", metavar="T:S,T:S", rich_help_panel=PANEL, help="Pairs of the table, or `all`."),
    ] = "",
    methods: Annotated[
        str | None,
        typer.Option("--methods", metavar="A,B", rich_help_panel=PANEL, help="Of the table.", show_default=_METHODS),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="DIR", rich_help_panel=PANEL, help="Make records of this comparison instead."),
    ] = None,
    to: Annotated[
        Path,
        typer.Option(
            "--to", metavar="DIR", rich_help_panel=PANEL, help="Where --record writes.", show_default="records"
        ),
    ] = Path("records"),
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", rich_help_panel=RUN, help="Folder of runs.", show_default="reproduce-..."
        ),
    ] = None,
) -> None:
    """Measure a row of the ledger again, or a published table.

    A row runs with its recorded settings and seeds; exit code 0 says that its mean came out inside the recorded
    interval, 6 that it did not. A table's pairs and methods run by its recipe and stand beside the published numbers,
    with a record for each row. The same command goes on where it stopped; --time-budget counts for all of it.
    """
    if list_:
        from compressor.comparison.ledger.published import all_tables
        from compressor.comparison.ledger.records import all_records

        list_rows(ask.output, all_records(), all_tables())
    elif record is not None:
        _record(ask, record, row, to)
    elif row is None:
        raise UsageError("which row? none was given", hint="compress reproduce --list")
    elif row.endswith(TABLE):
        _table(ask, row.removesuffix(TABLE), pair, _words(methods or _METHODS), 3 if seeds is None else seeds, out)
    elif pair or methods:
        raise UsageError(
            f"{'--pair' if pair else '--methods'} is for tables; {row} is of one pair and method",
            hint="compress reproduce --list",
        )
    else:
        _row(ask, row, seeds, out)


def _row(ask: Ask, name: str, seeds: int | None, out: Path | None) -> None:
    from compressor.cli.distill import begin
    from compressor.cli.listeners import listening
    from compressor.comparison.budget import Budget
    from compressor.comparison.ledger.records import find_record

    if seeds is not None and seeds < 1:
        raise UsageError(f"--seeds must be >= 1, got {seeds}")
    record = find_record(name)
    given = ask.given.resolved()
    if ask.given.recipe is not None:
        raise UsageError(f"{record.row} runs at its recorded settings, not by --recipe {ask.given.recipe}")
    _refuse_settings(record.row, given.origins)
    runtime = given.config.runtime
    if not _said(given.origins, "runtime.watch_test"):
        runtime = replace(runtime, watch_test=any(value.paper_rule_top1 is not None for value in record.seeds))
    budget = Budget(runtime.time_budget)
    names = _names(record.config)
    check_names(names, [record.method])
    wanted = [value.seed for value in record.seeds] if seeds is None else list(range(seeds))
    begin(ask, replace(names, runtime=runtime), [record.method], len(wanted))
    from compressor.comparison.ledger.rows import reproduce_row

    with listening(ask.output, many=True) as listener:
        made = reproduce_row(
            record,
            runtime,
            seeds=wanted,
            directory=given.config.data.directory,
            out=out,
            budget=budget,
            listener=listener,
            command=ask.line,
        )
    _tell_row(ask, made)


def _refuse_settings(row: str, origins: Mapping[str, str]) -> None:
    """Refuse what would change a row's result; the user's config file is for other runs, and not looked at."""
    kept = str(user_config_file())
    for key, origin in origins.items():
        free = key.startswith("runtime.") or key == "data.directory"
        if not free and origin != kept and not origin.startswith("recipe "):
            raise UsageError(
                f"{row} runs at its recorded settings, {origin} would change {key}",
                hint="leave it out; compress compare runs other settings",
            )


def _names(config: Mapping[str, Any]) -> "RunConfig":
    from compressor.config.settings import RunConfig, StudentConfig, TeacherConfig

    return RunConfig(
        teacher=TeacherConfig(name=config["teacher"]["name"]), student=StudentConfig(name=config["student"]["name"])
    )


def _tell_row(ask: Ask, made: "Reproduction") -> None:
    output, judgement = ask.output, made.judgement
    failure = GateError(judgement.sentence()) if judgement is not None and made.exit_code == 6 else None
    if output.manner.json:
        gate = fault_of(failure).document() if failure is not None else {}
        output.document(made.document() | gate)
    elif output.manner.quiet:
        output.result(str(made.folder))
    elif judgement is not None:
        output.result(judgement_lines(judgement, output))
        for note in judgement.notes:
            output.talk(f"note: {note}")
        if failure is None:
            output.talk(judgement.sentence())
        output.talk(f"report: {made.folder / 'report.html'}")
    for reason in made.failures:
        output.warn(reason)
    if failure is not None:
        output.fail(fault_of(failure), documented=True)
    if made.exit_code:
        raise typer.Exit(made.exit_code)


def _table(ask: Ask, name: str, pairs: str, methods: list[str], seeds: int, out: Path | None) -> None:
    from compressor.cli.distill import begin
    from compressor.cli.listeners import listening
    from compressor.comparison.budget import Budget
    from compressor.comparison.ledger.published import find_table

    if seeds < 1:
        raise UsageError(f"--seeds must be >= 1, got {seeds}")
    table = find_table(name)
    chosen = _pairs(table, pairs)
    for pair in chosen:
        if not pair.published:
            ask.output.warn(f"{pair.name} is none of the table's pairs: nothing was published of it")
    for method in methods:
        check_method(method)
    config_for = _settings_for(ask, table)
    first = config_for({"teacher.name": chosen[0].teacher, "student.name": chosen[0].student})
    budget = Budget(first.runtime.time_budget)
    begin(ask, first, methods, seeds)
    from compressor.comparison.ledger.tables import measure_table

    with listening(ask.output, many=True) as listener:
        made = measure_table(
            table,
            config_for,
            pairs=chosen,
            methods=methods,
            seeds=seeds,
            out=out,
            budget=budget,
            listener=listener,
            command=ask.line,
        )
    _tell_table(ask, made)


def _pairs(table: "PublishedTable", text: str) -> "list[PublishedPair]":
    if not text:
        known = ", ".join(pair.name for pair in table.pairs)
        raise UsageError(
            f"{table.table}{TABLE} has {len(table.pairs)} pairs: {known}", hint="--pair T:S, or --pair all"
        )
    if text.strip() == "all":
        return list(table.pairs)
    chosen = [table.named(word) for word in _words(text, "--pair")]
    return list({pair.name: pair for pair in chosen}.values())


def _settings_for(ask: Ask, table: "PublishedTable") -> Any:
    """Return the settings of a cell: the table's recipe, what was typed, and as many epochs for the teacher."""
    given = ask.given if ask.given.recipe is not None else replace(ask.given, recipe=table.recipe)

    def config_for(overrides: Mapping[str, Any]) -> "RunConfig":
        resolved = given.resolved(overrides)
        more: dict[str, Any] = {}
        if table.recipe is None and not _said(resolved.origins, "data.source"):
            more["data.source"] = table.data
        if _said(resolved.origins, "training.epochs") and not _said(resolved.origins, "teacher_training.epochs"):
            more["teacher_training.epochs"] = resolved.config.training.epochs
        if not _said(resolved.origins, "runtime.watch_test"):
            more["runtime.watch_test"] = True
        return given.resolved({**more, **overrides}).config if more else resolved.config

    return config_for


def _said(origins: Mapping[str, str], key: str) -> bool:
    """Say whether a setting was written by the user, in any place."""
    return not origins.get(key, "recipe ").startswith("recipe ")


def _tell_table(ask: Ask, made: "TableRun") -> None:
    output = ask.output
    if output.manner.json:
        output.document(made.document())
    elif output.manner.quiet:
        output.result(str(made.folder))
    else:
        output.result(table_lines(made.cells, output))
        output.talk(f"paper: {made.table.source}; {made.table.rule}")
        output.talk("measured: the last epoch, chosen on nothing, unless --select says otherwise")
        output.talk(f"records: {made.folder / 'records'}   report: {made.folder / 'report.html'}")
    if made.exit_code:
        raise typer.Exit(made.exit_code)


def _record(ask: Ask, folder: Path, name: str | None, to: Path) -> None:
    from compressor.comparison.ledger.making import record_comparison

    files = record_comparison(folder, to, name)
    if ask.output.manner.json:
        ask.output.document({"schema": 1, "status": "done", "exit": 0, "records": [str(file) for file in files]})
    else:
        ask.output.result("\n".join(map(str, files)))


def _words(text: str, option: str = "--methods") -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UsageError(f"{option} {text!r} has an empty name in it", hint=f"{option} A,B")
    return words
