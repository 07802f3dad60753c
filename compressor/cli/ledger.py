"""How the ledger is told: rows that can be measured again, a row's judgement, a table beside its published numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compressor.cli.tables import aligned, tab_separated

if TYPE_CHECKING:
    from compressor.cli.output import Output
    from compressor.comparison.ledger.judgement import Judgement
    from compressor.comparison.ledger.published import PublishedTable
    from compressor.comparison.ledger.records import Listed
    from compressor.comparison.ledger.tables import TableCell

TABLE = "-table"
"""What the name of a published table ends with where rows are named."""
_ROWS = ("row", "n", "top1_mean", "top1_sd", "expected_low", "expected_high", "train_seconds", "schedule", "package")
_SEEDS = ("seed", "recorded", "now", "same weights")
_CELLS = ("pair", "method", "paper", "rerun", "rerun_sd", "top1_mean", "top1_sd", "n", "paper_rule_top1", "difference")


def list_rows(output: "Output", records: Mapping[str, "Listed"], tables: Mapping[str, "PublishedTable"]) -> None:
    """Say which rows and tables there are."""
    if output.manner.json:
        output.document({"schema": 1, "rows": [_row_document(item) for item in records.values()], "tables": [*tables]})
    elif output.manner.quiet:
        output.result("\n".join([*records, *(f"{name}{TABLE}" for name in tables)]))
    elif output.rich_tables:
        rows = [_row_cells(item) for item in records.values()]
        rows += [
            (f"{name}{TABLE}", "-", "-", f"{len(table.pairs)} pairs", table.title) for name, table in tables.items()
        ]
        output.result(aligned(("row", "top-1 (n)", "another mean of n", "train s", "schedule"), rows, output.columns))
    else:
        output.result(tab_separated(_ROWS, [_row_values(item) for item in records.values()]))


def judgement_lines(judgement: "Judgement", output: "Output") -> str:
    """Return the seeds of a row, recorded and now."""
    then = {value.seed: value for value in judgement.record.seeds}
    rows = []
    for value in judgement.measured:
        old = then.get(value.seed)
        same = "-" if old is None else "yes" if old.student_sha256 == value.student_sha256 else "no"
        rows.append((value.seed, None if old is None else old.top1, value.top1, same))
    if not output.rich_tables:
        return tab_separated(_SEEDS, rows)
    shown = [(str(seed), _percent(old), _percent(new), same) for seed, old, new, same in rows]
    return aligned(_SEEDS, shown, output.columns)


def table_lines(cells: Sequence["TableCell"], output: "Output") -> str:
    """Return the cells of a published table beside what was measured."""
    if not output.rich_tables:
        return tab_separated(_CELLS, [_cell_values(cell) for cell in cells])
    blocks = []
    for pair in dict.fromkeys(cell.pair for cell in cells):
        mine = [cell for cell in cells if cell.pair == pair]
        header = (pair, "paper", "re-run", "measured (n)", "gap", "paper's rule")
        blocks.append(aligned(header, [_cell_texts(cell) for cell in mine], output.columns))
        blocks += [f"{cell.method}: failed: {cell.reason}" for cell in mine if cell.reason]
    return "\n".join(blocks)


def _row_document(item: "Listed") -> dict[str, Any]:
    return dict(zip(_ROWS, _row_values(item), strict=True))


def _row_values(item: "Listed") -> tuple[Any, ...]:
    record, summary = item.record, item.record.summary
    low, high = summary.expected or (None, None)
    seconds = sum(value.train_seconds for value in record.seeds)
    return (record.row, summary.n, summary.mean, summary.sd, low, high, seconds, record.schedule, item.package)


def _row_cells(item: "Listed") -> tuple[str, ...]:
    record, summary = item.record, item.record.summary
    spread = "" if summary.sd is None else f" ± {summary.sd:.2f}"
    expected = "no claim" if summary.expected is None else f"[{summary.expected[0]:.2f}, {summary.expected[1]:.2f}]"
    seconds = sum(value.train_seconds for value in record.seeds)
    return record.row, f"{summary.mean:.2f}{spread} ({summary.n})", expected, f"{seconds:,.0f}", record.schedule


def _cell_values(cell: "TableCell") -> tuple[Any, ...]:
    rerun = (None, None) if cell.rerun is None else (cell.rerun.mean, cell.rerun.sd)
    return (
        cell.pair,
        cell.method,
        cell.published,
        *rerun,
        cell.measured,
        cell.sd,
        cell.n,
        cell.paper_rule,
        cell.difference,
    )


def _cell_texts(cell: "TableCell") -> tuple[str, ...]:
    spread = "" if cell.sd is None else f" ± {cell.sd:.2f}"
    count = "" if cell.method == "teacher" or not cell.n else f" ({cell.n})"
    rerun = "-" if cell.rerun is None else _percent(cell.rerun.mean)
    measured = "failed" if cell.reason else f"{_percent(cell.measured)}{spread}{count}"
    rule = "not recorded" if cell.measured is not None and cell.paper_rule is None else _percent(cell.paper_rule)
    difference = "-" if cell.difference is None else f"{cell.difference:+.2f}"
    return cell.method, _percent(cell.published), rerun, measured, difference, rule


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
