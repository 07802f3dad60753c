"""The files of a table: ``table.csv`` and ``table.json`` with full values, ``table.md`` and ``table.tex`` to read."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from compressor.comparison.columns import NONE, Column, accuracy_columns, cost_columns, filled, text_of
from compressor.comparison.table import Row
from compressor.storage import write_json, write_text

_PAIRED = ("interval", "image_interval", "equal_interval")
_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "–": "--",
        ">": "$>$",
        "<": "$<$",
    }
)


def write_tables(folder: Path, rows: Sequence[Row], document: Mapping[str, Any]) -> None:
    """Write ``table.csv``, ``table.json``, ``table.md`` and ``table.tex`` beside each other."""
    baseline = str(document.get("baseline", ""))
    write_text(folder / "table.csv", as_csv(rows))
    write_text(folder / "table.md", as_markdown(rows, baseline))
    write_text(folder / "table.tex", as_latex(rows, baseline))
    write_json(folder / "table.json", dict(document))


def as_csv(rows: Sequence[Row]) -> str:
    """Return the rows with full values; an interval is two columns, ``..._low`` and ``..._high``."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(_flat(Row(method="", pair="", n=0))), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(row) for row in rows)
    return out.getvalue()


def as_markdown(rows: Sequence[Row], baseline: str) -> str:
    """Return one table of all pairs, for a README or an issue."""
    columns = _columns(rows, baseline)
    lines = [[column.title for column in columns], ["---"] * len(columns)]
    lines += [[text_of(column.cell(row)) or NONE for column in columns] for row in rows]
    return "".join("| " + " | ".join(_plain(cell) for cell in line) + " |\n" for line in lines)


def as_latex(rows: Sequence[Row], baseline: str) -> str:
    """Return a ``tabular`` for LaTeX with the package booktabs."""
    columns = _columns(rows, baseline)
    kinds = "l" * 2 + "r" * (len(columns) - 2)
    lines = [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", _latex_line([column.title for column in columns])]
    pair = ""
    for row in rows:
        if row.pair != pair:
            lines.append(r"\midrule")
            pair = row.pair
        lines.append(_latex_line([text_of(column.cell(row)) or NONE for column in columns]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _columns(rows: Sequence[Row], baseline: str) -> list[Column]:
    pair = Column("pair", "", lambda row: (row.pair,))
    accuracy = accuracy_columns(rows, baseline)
    cost = [column for column in cost_columns(rows)[1:] if column.title in ("params", "ms/image", "train s", "images")]
    reason = Column("reason", "", lambda row: (row.reason or NONE,))
    return [pair, *accuracy, *cost, *filled([reason], rows)]


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    values = asdict(row)
    for item in fields(Row):
        value = values[item.name]
        if item.name in _PAIRED:
            low, high = value or (None, None)
            flat |= {f"{item.name}_low": low, f"{item.name}_high": high}
        else:
            flat[item.name] = value
    return {key: "" if value is None else value for key, value in flat.items()}


def _plain(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(" ".join(cell.split()).translate(_ESCAPES) for cell in cells) + r" \\"
