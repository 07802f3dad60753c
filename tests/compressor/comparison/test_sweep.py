"""A sweep is a comparison at each value: real tiny cells, one teacher, finished ones only read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_methods import plant
from tiny_runs import TINY

from compressor.comparison.sweep import Sweep, sweep
from compressor.config.layers import Layer, resolve
from compressor.config.settings import RunConfig
from compressor.errors import UsageError


@pytest.fixture(autouse=True)
def _without_reports(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the page of each comparison, which takes longer than its cells and has tests of its own."""
    monkeypatch.setattr("compressor.comparison.report.page.write_report", lambda *_, **__: None)


def config_for(overrides: Mapping[str, Any]) -> RunConfig:
    return resolve([Layer("test", {**TINY, "training.batch_size": 20}), Layer("compare", overrides)]).config


def tiny_sweep(*methods: str, values: tuple[float, ...] = (40, 100), **more: Any) -> Sweep:
    given: dict[str, Any] = {"option": "fraction", "key": "data.fraction", "out": Path("swept"), "seeds": 1, **more}
    return sweep(config_for, values=values, methods=methods, **given)


def test_each_value_is_a_comparison_in_a_folder_of_its_own_under_one_teacher() -> None:
    made = tiny_sweep("kd")
    assert made.exit_code == 0
    seen = []
    for value, comparison in made.pairs:
        assert comparison.folder == Path(f"swept/fraction-{value:g}")
        for cell in comparison.cells:
            assert cell.result is not None
            seen.append((value, cell.method, cell.result["data"]["train"]))
            assert cell.result["data"]["fraction"] == value
    part, whole = (count for _, method, count in seen if method == "kd")
    assert part == pytest.approx(0.4 * whole, abs=5)
    teachers = {cell.result["teacher"]["sha256"] for _, one in made.pairs for cell in one.cells if cell.result}
    assert len(teachers) == 1


def test_the_picture_lies_above_the_comparisons_with_the_means_of_their_tables() -> None:
    made = tiny_sweep("kd")
    assert made.page == Path("swept/sweep.html")
    for name in ("sweep.html", "sweep.svg", "sweep.csv", "sweep.json"):
        assert Path("swept", name).is_file()
    page = made.page.read_text(encoding="utf-8")
    assert "training images used" in page
    for _, comparison in made.pairs:
        for row in comparison.rows:
            assert f"{row.top1_mean:.1f}" in page


def test_a_sweep_asked_again_reads_its_cells() -> None:
    tiny_sweep("kd")
    stamps = {path: path.stat().st_mtime_ns for path in Path("swept").rglob("result.json")}
    wider = tiny_sweep("kd", values=(40, 70, 100))
    assert len(stamps) == 4
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert [value for value, _ in wider.pairs] == [40, 70, 100]


def test_a_value_out_of_range_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(UsageError, match=r"data.fraction must be 1 to 100 percent, got 200.0"):
        tiny_sweep("kd", values=(50, 200))
    assert not Path("swept").exists()


def test_a_failed_cell_is_told_and_the_other_values_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, poisoned="tiny_methods:Poisoned")
    made = tiny_sweep("poisoned")
    assert made.exit_code == 5
    document = made.document()
    assert (document["status"], document["exit"], document["values"]) == ("failed", 5, [40, 100])
    assert [one["status"] for one in document["comparisons"]] == ["failed", "failed"]
    assert {cell["status"] for one in document["comparisons"] for cell in one["cells"]} == {"failed", "done"}
    json.dumps(document)


def test_without_a_name_the_folder_says_data_pair_and_option() -> None:
    made = tiny_sweep(values=(40,), out=None)
    assert made.folder.name == "compare-tiny.npz-resnet14-resnet8-by-fraction"
