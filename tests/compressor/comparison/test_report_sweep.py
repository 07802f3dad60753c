"""The picture of a sweep: every point in its table, a line a method, and files that agree."""

import csv
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from compressor.comparison.columns import Number, text_of
from compressor.comparison.report.sweep import SweepPoint, draw_sweep, points_of, write_sweep
from compressor.comparison.table import Row

POINTS = [
    SweepPoint(method="kd", value=50, mean=80.0, deviation=1.0, count=3),
    SweepPoint(method="kd", value=25, mean=70.0, deviation=2.0, count=3),
    SweepPoint(method="scratch", value=25, mean=60.0),
]


def test_rows_with_a_mean_become_points() -> None:
    rows = [
        Row(method="teacher", pair="a -> b", n=1, top1_mean=95.0),
        Row(method="kd", pair="a -> b", n=3, top1_mean=80.0, top1_sd=1.0),
        Row(method="crd", pair="a -> b", n=0, status="failed", reason="it fell"),
    ]
    assert points_of(25, rows) == [
        SweepPoint(method="teacher", value=25, mean=95.0, pair="a -> b"),
        SweepPoint(method="kd", value=25, mean=80.0, deviation=1.0, count=3, pair="a -> b"),
    ]


def test_picture_has_a_line_a_method_and_every_number_in_its_table() -> None:
    drawn = draw_sweep(POINTS, value_name="images used (%)")
    assert drawn.title == "Accuracy against images used (%)"
    assert [text_of(row[0]) for row in drawn.table.rows] == ["kd", "scratch"]
    found = [[part.value for cell in row for part in cell if isinstance(part, Number)] for row in drawn.table.rows]
    assert found == [[70.0, 2.0, 80.0, 1.0], [60.0]]
    texts = "".join(ElementTree.fromstring(drawn.svg).itertext())
    assert "kd" in texts
    assert "images used (%)" in texts
    with pytest.raises(ValueError, match="at least one point"):
        draw_sweep([], value_name="x")


def test_files_agree_and_hide_the_machine(tmp_path: Path) -> None:
    both = [*POINTS, SweepPoint(method="kd", value=25, mean=50.0, pair="a -> b")]
    page = write_sweep(tmp_path, both, value_name="images used (%)", command="compress compare -o /home/me/x")
    assert page == tmp_path / "sweep.html"
    text = page.read_text()
    assert text.count("<figure") == 2
    assert "compress compare -o .../x" in text
    assert "/home/me" not in text
    with (tmp_path / "sweep.csv").open() as file:
        lines = list(csv.DictReader(file))
    values = json.loads((tmp_path / "sweep.json").read_text())
    assert [float(line["mean"]) for line in lines] == [value["mean"] for value in values] == [80.0, 70.0, 60.0, 50.0]
    assert [line["deviation"] for line in lines] == ["1.0", "2.0", "", ""]
    assert all(f'value="{value["mean"]}"' in text for value in values)
    assert {file.name for file in tmp_path.glob("*.svg")} == {"sweep.svg", "sweep-2.svg"}
