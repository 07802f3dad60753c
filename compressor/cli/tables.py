"""Tables on stdout: aligned for eyes, tab-separated with full values for everything else."""

from collections.abc import Mapping, Sequence
from typing import Any

from compressor.cli.wording import accuracy, big


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None = None) -> str:
    """Return rows in columns; numbers to the right; the last column is cut where ``columns`` would be exceeded."""
    table = [list(header), *map(list, rows)]
    wide = [max(len(row[place]) for row in table) for place in range(len(header))]
    right = [bool(rows) and all(_is_number(row[place]) for row in rows) for place in range(len(header))]
    lines = []
    for row in table:
        cells = [f"{cell:>{wide[n]}}" if right[n] else f"{cell:{wide[n]}}" for n, cell in enumerate(row)]
        line = "  ".join(cells).rstrip()
        lines.append(line if columns is None or len(line) <= columns else line[: columns - 3].rstrip() + "...")
    return "\n".join(lines)


def tab_separated(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows with tabs between the values; None is empty, tabs and line breaks inside become spaces."""
    return "\n".join("\t".join(_plain(value) for value in row) for row in [header, *rows])


COMPARISON = [
    "method",
    "pair",
    "n",
    "top1_mean",
    "top1_sd",
    "difference",
    "interval_low",
    "interval_high",
    "verdict",
    "parameters",
    "macs",
    "latency_ms",
    "train_seconds",
    "status",
    "reason",
]


def comparison_tsv(rows: Sequence[Any]) -> str:
    """Return the rows of a comparison with full values."""
    return tab_separated(COMPARISON, [_comparison_values(row) for row in rows])


def comparison_table(rows: Sequence[Any], baseline: str, columns: int) -> str:
    """Return the rows of a comparison for a terminal, one block a pair; failed rows say why below the table."""
    blocks = []
    pairs = list(dict.fromkeys(row.pair for row in rows))
    for pair in pairs:
        mine = [row for row in rows if row.pair == pair]
        block = _fitting([_comparison_cells(row, baseline) for row in mine], columns)
        notes = [f"{row.method}: {row.status}: {_plain(row.reason)}" for row in mine if row.reason]
        blocks.append("\n".join([*([pair] if len(pairs) > 1 else []), block, *notes]))
    return "\n\n".join(blocks)


def sweep_tsv(option: str, comparisons: Sequence[tuple[float, Sequence[Any]]]) -> str:
    """Return the rows of comparisons at several values of an option, with full values; the value comes first."""
    rows = [[f"{value:g}", *_comparison_values(row)] for value, rows in comparisons for row in rows]
    return tab_separated([option, *COMPARISON], rows)


def sweep_table(option: str, comparisons: Sequence[tuple[float, Sequence[Any]]], columns: int) -> str:
    """Return accuracies for a terminal: a line a method, a column a value of the option, one block a pair."""
    pairs = list(dict.fromkeys(row.pair for _, rows in comparisons for row in rows))
    blocks = []
    for pair in pairs:
        methods = dict.fromkeys(row.method for _, rows in comparisons for row in rows if row.pair == pair)
        cells: dict[str, list[str]] = {method: [method] for method in methods}
        for _, rows in comparisons:
            mine = {row.method: row for row in rows if row.pair == pair}
            for method, line in cells.items():
                line.append(_swept_cell(mine.get(method)))
        header = [f"top-1 by {option}", *(f"{value:g}" for value, _ in comparisons)]
        block = aligned(header, list(cells.values()), columns)
        blocks.append("\n".join([*([pair] if len(pairs) > 1 else []), block]))
    return "\n\n".join(blocks)


def _swept_cell(row: Any) -> str:
    if row is None:
        return "-"
    spread = f" ± {row.top1_sd:.1f}" if row.top1_sd is not None else ""
    return row.status if row.top1_mean is None else f"{accuracy(row.top1_mean)}{spread}"


def _fitting(rows: Sequence[Mapping[str, str]], columns: int) -> str:
    """Return the table without the columns that matter least until it fits."""
    names = list(rows[0]) if rows else []
    for spare in ("MACs", "train s", "ms", "params", ""):
        table = aligned(names, [[row[name] for name in names] for row in rows])
        if max(map(len, table.split("\n"))) <= columns:
            return table
        names = [name for name in names if name != spare]
    return aligned(names, [[row[name] for name in names] for row in rows], columns)


def _comparison_values(row: Any) -> list[Any]:
    low, high = row.interval or (None, None)
    measured = [row.n, row.top1_mean, row.top1_sd, row.difference, low, high, row.verdict]
    costs = [row.parameters, row.macs, row.latency_ms, row.train_seconds]
    return [row.method, row.pair, *measured, *costs, row.status, row.reason]


def _comparison_cells(row: Any, baseline: str) -> dict[str, str]:
    spread = f" ± {row.top1_sd:.1f}" if row.top1_sd is not None else ""
    count = "" if row.method == "teacher" or not row.n else f" ({row.n})"
    difference = "-" if row.difference is None or row.method == baseline else f"{row.difference:+.1f}"
    if row.interval is not None:
        difference += f" [{row.interval[0]:+.1f}, {row.interval[1]:+.1f}]"
    latency = "-" if row.latency_ms is None else f"{row.latency_ms:.1f}"
    seconds = "-" if row.train_seconds is None else f"{row.train_seconds:,.0f}"
    verdict = row.verdict or ("" if row.status == "done" else row.status)
    return {
        "method": row.method,
        "top-1 (n)": f"{accuracy(row.top1_mean)}{spread}{count}",
        f"vs {baseline} [95 % CI]": difference,
        "verdict": verdict or "-",
        "params": big(row.parameters),
        "MACs": big(row.macs),
        "ms": latency,
        "train s": seconds,
    }


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "").replace(" ", "").rstrip("kMG").isdecimal()


def _plain(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())
