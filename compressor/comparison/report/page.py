"""Writes ``report.html``: one file, no request to anywhere, light and dark, to be read, printed and sent around."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from compressor import __version__
from compressor.comparison.report.made import how_made
from compressor.comparison.report.sections import Section, make_sections
from compressor.comparison.report.svg import colors
from compressor.comparison.table import CellRecord, Row
from compressor.storage import write_text

LARGEST = 5_000_000
"""Bytes that the page may have; pictures of errors are left out before it would be larger."""


def write_report(
    folder: Path,
    rows: Sequence[Row],
    cells: Sequence[CellRecord],
    *,
    verdict: str,
    baseline: str,
    command: str = "",
) -> Path:
    """Write the page of a comparison into its folder.

    Args:
        rows: of the table. cells: behind them, with their evidence. verdict: one sentence. command: what was typed.

    Returns:
        the path of ``report.html``.
    """
    sections = make_sections(rows, cells, baseline)
    context = {
        "title": "Comparison",
        "verdict": verdict,
        "baseline": baseline,
        "made": how_made(cells, command, folder),
    }
    text = render("report.html.j2", sections=sections, **context)
    if len(text.encode()) > LARGEST:
        text = render("report.html.j2", sections=[_lighter(section) for section in sections], **context)
    path = folder / "report.html"
    write_text(path, text)
    return path


def _lighter(section: Section) -> Section:
    return replace(
        section, worst=(), notes=[*section.notes, "Pictures of errors were left out: the page was too large."]
    )


def render(template: str, **context: Any) -> str:
    """Fill one of the templates; everything that is not a picture of ours is escaped."""
    return _environment().get_template(template).render(colors=colors(), version=__version__, **context)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("compressor.comparison.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
