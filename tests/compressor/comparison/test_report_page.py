"""The page of a comparison, read as a browser would: numbers equal to the files, no request, everything described."""

import csv
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up_runs import made_up_cells

from compressor.comparison import files
from compressor.comparison.report import page as report_page
from compressor.comparison.report.page import LARGEST, write_report
from compressor.comparison.report.sections import make_sections
from compressor.comparison.table import AVERAGE, CellRecord, make_rows
from compressor.comparison.verdict import sentence

SHARES = {
    "scratch": [0.70, 0.72, 0.71],
    "kd": [0.75, 0.76, 0.77],
    "sskd": [0.81, 0.83, 0.82],
    "kd (4 views)": [0.77, 0.80, 0.78],
}
COMMAND = "compress compare --methods kd,sskd --out /home/somebody/secret/place"
_VOID = {"meta", "link", "img", "br"}


@dataclass
class Reader(HTMLParser):
    """Collects what the tests ask for, and checks that every element is closed in order."""

    ids: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    undescribed: list[str] = field(default_factory=list)
    numbers: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    tables_of_figures: dict[str, int] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    row: tuple[str, str] | None = None
    figure: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names.append(tag)
        if tag not in _VOID:
            self.open.append(tag)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        self.addresses += [str(given[name]) for name in ("src", "href", "data", "srcset") if given.get(name)]
        if (tag == "img" and not given.get("alt")) or (tag == "svg" and not given.get("aria-label")):
            self.undescribed.append(tag)
        if tag == "figure":
            self.figure = str(given["id"])
        if tag == "table" and self.figure:
            self.tables_of_figures[self.figure] = self.tables_of_figures.get(self.figure, 0) + 1
        if tag == "tr":
            method = given.get("data-method")
            self.row = None if method is None else (str(given["data-pair"]), method)
        if tag == "data" and self.row is not None:
            self.numbers.setdefault(self.row, {})[str(given["data-name"])] = str(given["value"])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "figure":
            self.figure = ""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Write the page of two pairs and a failed run, once."""
    folder = tmp_path_factory.mktemp("report")
    cells = made_up_cells(folder / "cells", SHARES)
    cells += made_up_cells(folder / "cells", {"scratch": [0.5, 0.52], "kd": [0.6, 0.61]}, pair="vgg13 -> vgg8")
    cells.append(CellRecord("<crd>", "resnet20 -> resnet8", 0, str(folder / "cells" / "x"), None, "it fell & <broke>"))
    rows = make_rows(cells, "scratch")
    verdict = sentence(rows, "scratch")
    path = write_report(folder, rows, cells, verdict=verdict, baseline="scratch", command=COMMAND)
    files.write_tables(folder, rows, {"baseline": "scratch", "rows": [row.__dict__ for row in rows]})
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return SimpleNamespace(folder=folder, rows=rows, cells=cells, verdict=verdict, path=path, reader=reader)


def test_every_number_of_a_row_in_the_page_is_that_of_the_csv_and_of_the_json(made: SimpleNamespace) -> None:
    with (made.folder / "table.csv").open() as file:
        lines = {(line["pair"], line["method"]): line for line in csv.DictReader(file)}
    document = {
        (row["pair"], row["method"]): row for row in json.loads((made.folder / "table.json").read_text())["rows"]
    }
    compared = 0
    for place, numbers in made.reader.numbers.items():
        for name, value in numbers.items():
            assert float(value) == float(lines[place][name])
            key, side = (name[: -len("_low")], 0) if name.endswith("_low") else (name.removesuffix("_high"), 1)
            whole = document[place].get(key) if name not in document[place] else None
            assert float(value) == (document[place][name] if whole is None else whole[side])
            compared += 1
    assert set(made.reader.numbers) == {(row.pair, row.method) for row in made.rows}
    assert compared > 100


def test_page_asks_nobody_for_anything(made: SimpleNamespace) -> None:
    for address in made.reader.addresses:
        assert address.startswith(("#", "data:")), address
    text = made.path.read_text()
    assert not {"script", "link" + "ed", "iframe", "object", "audio", "video"} & set(made.reader.names)
    outside = set(re.findall(r"https?://[\w./]+", text))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_page_is_small_whole_and_its_names_are_unique(made: SimpleNamespace) -> None:
    assert made.path.stat().st_size < LARGEST
    assert made.reader.open == []
    assert len(made.reader.ids) == len(set(made.reader.ids))
    links = {address[1:] for address in made.reader.addresses if address.startswith("#")}
    assert links <= set(made.reader.ids)


def test_every_picture_is_described_and_has_its_numbers_beside_it(made: SimpleNamespace) -> None:
    assert made.reader.undescribed == []
    figures = made.reader.names.count("figure")
    assert figures >= 15
    assert list(made.reader.tables_of_figures.values()) == [1] * figures


def test_page_says_the_verdict_what_failed_and_how_it_was_made(made: SimpleNamespace) -> None:
    text = made.path.read_text()
    assert made.verdict in text
    assert "it fell &amp; &lt;broke&gt;" in text
    assert "<crd>" not in text
    assert "four &amp; five" in text
    assert "x86_64, 2 CPU cores" in text
    assert "d" * 64 in text
    assert "compress compare --methods kd,sskd --out .../place" in text
    assert "/home/somebody" not in text
    assert str(made.folder) not in text


def test_page_follows_the_readers_colours_and_can_be_printed(made: SimpleNamespace) -> None:
    text = made.path.read_text()
    assert "@media (prefers-color-scheme: dark)" in text
    assert "@media print" in text
    assert "#fe0" not in text  # the colours that stand for the page's own while drawing


def test_average_has_a_section_of_its_own(made: SimpleNamespace) -> None:
    assert {"p0", "p1", "p2", "average", "made", "failures"} & set(made.reader.ids) == {
        "p0",
        "p1",
        "average",
        "made",
        "failures",
    }
    assert (AVERAGE, "kd") in made.reader.numbers


def test_same_runs_give_the_same_page(made: SimpleNamespace, tmp_path: Path) -> None:
    first = made.path.read_bytes()
    write_report(made.folder, made.rows, made.cells, verdict=made.verdict, baseline="scratch", command=COMMAND)
    assert made.path.read_bytes() == first


def test_page_that_would_be_too_large_leaves_out_pictures_of_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = made_up_cells(tmp_path / "cells", {"scratch": [0.7], "kd": [0.8]})
    rows = make_rows(cells, "scratch")
    monkeypatch.setattr(report_page, "LARGEST", 50_000)
    text = write_report(tmp_path, rows, cells, verdict="v", baseline="scratch").read_text()
    assert "data:image/png" not in text
    assert "the page was too large" in text
    assert "nothing is claimed" in text


def test_nothing_finished_is_a_page_too(tmp_path: Path) -> None:
    cells = [CellRecord(name, "a -> b", 0, "cells/x", None, "it fell") for name in ("scratch", "kd")]
    rows = make_rows(cells, "scratch")
    text = write_report(tmp_path, rows, cells, verdict=sentence(rows, "scratch"), baseline="scratch").read_text()
    assert "No method finished beside the baseline." in text
    assert text.count("it fell") == 2


def test_page_says_whether_the_test_images_were_looked_at_more_than_once(tmp_path: Path) -> None:
    cells = made_up_cells(tmp_path, {"scratch": [0.7, 0.72], "kd": [0.75, 0.76]})
    [once] = make_sections(make_rows(cells, "scratch"), cells, "scratch")
    assert any(note.endswith("looked at once, after training.") for note in once.notes)
    for cell in cells:
        assert cell.result is not None
        cell.result["metrics"]["paper_rule_top1"] = 80.0
    [often] = make_sections(make_rows(cells, "scratch"), cells, "scratch")
    assert not any("looked at once" in note for note in often.notes)
    assert any("nothing was chosen by it" in note for note in often.notes)
    assert "best on test" in [column.title for column in often.accuracy.columns]
