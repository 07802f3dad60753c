"""A grid of real tiny cells: the same students as alone, failures as rows, finished cells only read."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_methods import plant
from tiny_runs import SHIPPED, TINY, student_sha, tiny_run

from compressor.comparison.budget import Budget
from compressor.comparison.gate import check
from compressor.comparison.grid import Comparison, compare, compare_runs
from compressor.config.layers import Layer, resolve
from compressor.config.settings import RunConfig
from compressor.errors import GateError, Stopped, UsageError

pytestmark = pytest.mark.usefixtures("tiny", "no_page")


@pytest.fixture
def no_page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the page, which takes a second to draw and has tests of its own, but where a test asks for it."""
    if "with_page" not in request.fixturenames:
        monkeypatch.setattr("compressor.comparison.report.page.write_report", lambda *_, **__: Path("report.html"))


@pytest.fixture
def with_page() -> None:
    """Draw the page."""


def config_for(overrides: Mapping[str, Any]) -> RunConfig:
    return resolve([Layer("test", TINY), Layer("compare", overrides)]).config


def tiny_compare(*methods: str, seeds: int = 1, **more: Any) -> Comparison:
    return compare(config_for, methods=methods, seeds=seeds, **{"out": Path("cmp"), **more})


def test_cells_hold_the_students_that_single_runs_give() -> None:
    made = tiny_compare("kd", "fitnet", seeds=2)
    assert [(cell.method, cell.seed) for cell in made.cells] == [
        ("scratch", 0),
        ("kd", 0),
        ("fitnet", 0),
        ("scratch", 1),
        ("kd", 1),
        ("fitnet", 1),
    ]
    for cell in made.cells:
        alone = tiny_run(cell.method, seed=cell.seed, out=f"alone-{cell.method}-{cell.seed}")
        assert cell.result is not None
        assert cell.result["student"]["sha256"] == student_sha(alone)


def test_table_is_made_of_the_cells_and_written_in_three_forms() -> None:
    made = tiny_compare("kd", seeds=2)
    scores = {(cell.method, cell.seed): cell.result["metrics"]["top1"] for cell in made.cells if cell.result}
    by_method = {row.method: row for row in made.rows}
    kd = by_method["kd"]
    assert kd.top1_mean == pytest.approx((scores["kd", 0] + scores["kd", 1]) / 2)
    gaps = [scores["kd", seed] - scores["scratch", seed] for seed in (0, 1)]
    assert kd.difference == pytest.approx(sum(gaps) / 2)
    assert kd.verdict == "interval only"
    assert kd.p_value is None
    document = json.loads(Path("cmp/table.json").read_text())
    assert document["verdict"] == made.verdict
    assert len(document["cells"]) == 4
    with Path("cmp/table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == [row.method for row in made.rows]
    assert float(next(row for row in rows if row["method"] == "kd")["top1_mean"]) == kd.top1_mean
    assert Path("cmp/table.md").read_text().count("\n") == 2 + len(made.rows)


def test_folder_holds_the_page_of_real_runs(with_page: None) -> None:
    made = tiny_compare("kd", seeds=2)
    text = Path("cmp/report.html").read_text()
    assert made.verdict in text
    kd = next(row for row in made.rows if row.method == "kd")
    assert (kd.images, kd.teacher_images, kd.views) == (2 * 270, 2 * 270, 1)
    assert kd.image_interval is not None
    assert None not in (kd.teacher_kl, kd.cka, kd.ece_scaled, kd.temperature, kd.best_mean, kd.size_bytes)
    assert 0 <= (kd.cka or -1.0) <= 1
    assert "data:image/png" in text
    assert str(Path.cwd()) not in text


def test_comparison_asked_again_reads_its_cells_and_writes_the_same_table() -> None:
    first = tiny_compare("kd")
    before = {path.name: path.read_bytes() for path in Path("cmp").glob("table.*")}
    stamps = {path: path.stat().st_mtime_ns for path in Path("cmp/cells").rglob("*.json")}
    second = tiny_compare("kd")
    assert second.rows == first.rows
    assert {path.name: path.read_bytes() for path in Path("cmp").glob("table.*")} == before
    assert {path: path.stat().st_mtime_ns for path in Path("cmp/cells").rglob("*.json")} == stamps


def test_more_seeds_keep_the_finished_ones() -> None:
    first = tiny_compare("kd")
    second = tiny_compare("kd", seeds=2)
    kept = {cell.folder: cell.result for cell in first.cells}
    assert all(cell.result == kept[cell.folder] for cell in second.cells if cell.folder in kept)
    assert len(second.cells) == 4


def test_failed_cell_is_a_row_and_exit_5(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, poisoned="tiny_methods:Poisoned")
    made = tiny_compare("poisoned", "kd")
    assert made.exit_code == 5
    assert [cell.method for cell in made.failed] == ["poisoned"]
    last = made.rows[-1]
    assert (last.method, last.status, last.n) == ("poisoned", "failed", 0)
    assert "term 'bad'" in last.reason
    assert "term 'bad'" in Path("cmp/table.md").read_text()
    with pytest.raises(GateError, match="not finished"):
        check(made, "poisoned>=kd")


def test_method_that_cannot_be_imported_is_a_failed_row_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, broken="tiny_methods:Nowhere")
    made = tiny_compare("broken", "kd")
    assert made.exit_code == 5
    [failed] = made.failed
    assert failed.method == "broken"
    assert "cannot be imported" in failed.reason
    assert {row.method for row in made.rows if row.status == "done"} == {"teacher", "scratch", "kd"}


def test_setting_goes_to_the_methods_that_have_it() -> None:
    own = {**TINY, "method.kd_temperature": 2.0}
    made = compare(
        lambda overrides: resolve([Layer("test", own), Layer("compare", overrides)]).config,
        methods=["kd"],
        seeds=1,
        out=Path("cmp"),
    )
    kd = next(cell for cell in made.cells if cell.method == "kd")
    assert kd.result is not None
    assert kd.result["student"]["sha256"] == student_sha(tiny_run("kd", method__kd_temperature=2.0, out="alone"))


def test_setting_that_no_method_has_is_refused() -> None:
    own = {**TINY, "method.temprature": 2.0}
    with pytest.raises(UsageError, match="no compared method has a setting 'temprature'") as caught:
        compare(
            lambda overrides: resolve([Layer("test", own), Layer("compare", overrides)]).config,
            methods=["kd"],
            seeds=1,
            out=Path("cmp"),
        )
    assert "temperature" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"baseline": "crd"}, "--baseline 'crd' is not compared"),
        ({"seeds": 0}, "--seeds must be >= 1, got 0"),
    ],
)
def test_impossible_grids_are_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tiny_compare("kd", **more)
    assert not Path("cmp").exists()


def test_finished_runs_are_compared_without_training() -> None:
    folders = [
        tiny_run(method, out=f"{method}-{seed}", seed=seed).folder for method in ("scratch", "kd") for seed in (0, 1)
    ]
    made = compare_runs(folders)
    assert made.folder is not None
    assert made.folder.name.startswith("compare-runs-")
    assert (made.folder / "table.csv").is_file()
    assert {(row.method, row.n) for row in made.rows} == {("teacher", 1), ("scratch", 2), ("kd", 2)}
    grid = tiny_compare("kd", seeds=2)
    assert [row.top1_mean for row in made.rows if row.method == "kd"] == [
        row.top1_mean for row in grid.rows if row.method == "kd"
    ]


def test_runs_that_differ_in_more_than_method_and_seed_are_refused() -> None:
    one = tiny_run("scratch", out="a")
    other = tiny_run("kd", out="b", training__epochs=1)
    with pytest.raises(UsageError, match="cannot stand in one table, they differ in epochs 2 and 1"):
        compare_runs([one.folder, other.folder])
    assert list(Path().glob("compare-*")) == []


def test_every_shipped_method_stands_in_one_table() -> None:
    settings = {
        key.replace("method.", f"method.{name}."): value for name, own in SHIPPED.items() for key, value in own.items()
    }
    made = compare(
        lambda overrides: resolve([Layer("test", {**TINY, **settings}), Layer("compare", overrides)]).config,
        methods=list(SHIPPED),
        seeds=1,
        out=Path("cmp"),
    )
    assert made.exit_code == 0
    rows = {row.method: row for row in made.rows}
    assert set(rows) == {"teacher", "kd (4 views)", *SHIPPED}
    assert (rows["sskd"].views, rows["sskd"].images) == (4, 4 * 2 * 270)
    assert rows["kd (4 views)"].images == rows["sskd"].images
    assert rows["sskd"].equal_compute == "kd (4 views)"


def test_one_time_budget_counts_for_all_cells() -> None:
    clock = iter([0.0, 1.0, 61.0])
    with pytest.raises(Stopped, match="the next students were not begun"):
        tiny_compare("kd", seeds=2, budget=Budget(60.0, now=lambda: next(clock)))
    assert sum((cell / "result.json").is_file() for cell in Path("cmp/cells").iterdir()) == 2
    made = tiny_compare("kd", seeds=1, budget=Budget(60.0, now=iter([0.0, 100.0]).__next__))
    assert made.exit_code == 0  # what is finished is only read, however late it is


def test_only_the_main_process_writes_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny_compare("kd")
    Path("cmp/table.csv").unlink()
    monkeypatch.setenv("RANK", "1")
    assert tiny_compare("kd").rows == made.rows
    assert not Path("cmp/table.csv").exists()
