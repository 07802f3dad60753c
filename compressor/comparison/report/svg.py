"""From a Matplotlib figure to a picture in a page: the page colours it, its text is text, its names are its own."""

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compressor.comparison.columns import Cell

TEXT, LINE, PAPER = "#fe0200", "#fe0201", "#fe0202"
FIRST, SECOND, THIRD = "#fe0100", "#fe0101", "#fe0102"
"""Colours to draw in; they stand for the page's own, which differ by light and dark."""
_SERIES = 8
_DASHES = ("-", "--", "-.", ":")
_MARKERS = "osD^vPX*"
_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"#([\w.-]+)")
_VARIABLES = {TEXT: "--text", LINE: "--line", PAPER: "--paper"} | {
    f"#fe01{number:02x}": f"--s{number}" for number in range(_SERIES)
}
LIGHT = ("#0b5cad", "#c2410c", "#0f766e", "#8b3a8f", "#8a6a00", "#b4234d", "#3f6212", "#475569")
DARK = ("#6cb2ff", "#ff9a5c", "#4fd1c0", "#e0a0e6", "#e3c04d", "#ff8fac", "#a3d46a", "#b6c2d2")
"""The series' colours on white and on black; each is told apart by marker and dashes too."""
_STYLE: Any = {  # Matplotlib types its keys one by one, and otherwise in each release
    "svg.fonttype": "none",
    "svg.hashsalt": "comparison",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.edgecolor": LINE,
    "axes.labelcolor": TEXT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.alpha": 0.5,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.color": TEXT,
    "text.parse_math": False,  # names of classes and methods are not formulas
    "xtick.color": LINE,
    "xtick.labelcolor": TEXT,
    "ytick.color": LINE,
    "ytick.labelcolor": TEXT,
}


@dataclass(frozen=True)
class NumberTable:
    """The numbers of a picture: headings, and rows of cells as wide."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawing for a page.

    Args:
        key: unique in the page; its names begin with it. title: above it. alt: what it shows, in words.
        svg: an ``<svg>`` element without a namespace, for HTML. file: the same as a file of its own.
        table: every number that is drawn.
    """

    key: str
    title: str
    alt: str
    svg: str
    file: str
    table: NumberTable


@dataclass(frozen=True)
class Look:
    """How one series is drawn: colour, marker and dashes, each different from the neighbours'."""

    color: str
    marker: str
    dashes: str


def look(number: int) -> Look:
    """Return the look of series ``number``, from 0; colours come again after eight, with other dashes."""
    turn = number % _SERIES
    return Look(f"#fe01{turn:02x}", _MARKERS[turn], _DASHES[(number + number // _SERIES) % len(_DASHES)])


Looks = Mapping[str, Look]
"""The look of each row by its label, the same in all pictures of a page."""


def looks_of(labels: Iterable[str]) -> Looks:
    """Give each label a look, in order."""
    return {label: look(number) for number, label in enumerate(dict.fromkeys(labels))}


@contextmanager
def canvas(width: float = 4.8, height: float = 3.2) -> Iterator[tuple[Figure, Axes]]:
    """Give a figure of ``width`` x ``height`` inches with one pair of axes, in the page's style."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_axisbelow(True)
        yield figure, axes


def picture(figure: Figure, *, key: str, title: str, alt: str, table: NumberTable) -> Picture:
    """Make a picture of a figure; call it within `canvas`."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(out.getvalue())
    _adapt(root, key, alt)
    return Picture(
        key=key,
        title=title,
        alt=alt,
        svg=ElementTree.tostring(root, encoding="unicode"),
        file=_as_file(root),
        table=table,
    )


def _adapt(root: ElementTree.Element, key: str, alt: str) -> None:
    """Drop namespaces and metadata, make names unique in the page, and let the page colour the drawing."""
    for parent in root.iter():
        for child in [item for item in parent if item.tag.rpartition("}")[2] == "metadata"]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        if "id" in element.attrib:
            element.set("id", f"{key}-{element.attrib['id']}")
        if _LINK in element.attrib:
            element.set("href", element.attrib.pop(_LINK))
        for name, value in element.attrib.items():
            element.set(name, _recoloured(_renamed(value, key)))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", alt)


def _renamed(value: str, key: str) -> str:
    if "url(#" not in value and not value.startswith("#"):
        return value
    if value in _VARIABLES or re.fullmatch(r"#[0-9a-f]{6}", value):
        return value
    return _REFERENCE.sub(lambda found: f"#{key}-{found[1]}", value)


def _recoloured(value: str) -> str:
    for color, variable in _VARIABLES.items():
        value = value.replace(color, f"var({variable})")
    return value


def _as_file(root: ElementTree.Element) -> str:
    """Return the drawing as a file that brings its own colours, light and dark."""
    own = ElementTree.fromstring(ElementTree.tostring(root, encoding="unicode"))
    own.set("xmlns", _SVG)
    style = ElementTree.Element("style")
    style.text = (
        f"svg {{ {_colors('#1c2330', '#98a2b3', '#ffffff', LIGHT)} background: var(--paper); }} "
        "@media (prefers-color-scheme: dark) "
        f"{{ svg {{ {_colors('#e6eaf0', '#7b8696', '#12161d', DARK)} }} }}"
    )
    own.insert(0, style)
    return ElementTree.tostring(own, encoding="unicode") + "\n"


def _colors(text: str, line: str, paper: str, series: Sequence[str]) -> str:
    own = "".join(f"--s{number}: {color}; " for number, color in enumerate(series))
    return f"--text: {text}; --line: {line}; --paper: {paper}; {own}"


def colors() -> dict[str, str]:
    """Return the page's colours as CSS declarations, ``light`` and ``dark``."""
    return {
        "light": _colors("#1c2330", "#98a2b3", "#ffffff", LIGHT),
        "dark": _colors("#e6eaf0", "#7b8696", "#12161d", DARK),
    }
