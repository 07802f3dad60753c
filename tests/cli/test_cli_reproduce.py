"""``compress reproduce``: what it hands over, how the outcome is told, and what it refuses beforehand."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from compressor.cli.main import application
from compressor.cli.options import SETTINGS
from compressor.comparison.ledger.judgement import judge
from compressor.comparison.ledger.published import find_table
from compressor.comparison.ledger.records import Record, Summary, all_records, find_record, write_record
from compressor.comparison.ledger.rows import Reproduction
from compressor.comparison.ledger.tables import TableRun, cell_of

ROW = "digits-resnet20-resnet8-kd"


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Put a stand-in where the command measures a row, and return what it was called with; each gives `outcome`."""
    calls: list[dict[str, Any]] = []

    def called(record: Record, runtime: Any, **options: Any) -> Reproduction:
        calls.append({"record": record, "runtime": runtime, **options})
        judgement = judge(record, record.seeds, notes=["torch: 3.0 now, 2.0 recorded"])
        return Reproduction(row=record.row, judgement=judgement, failures=(), folder=Path("there"))

    import_module("compressor.comparison.ledger.rows")
    monkeypatch.setattr("compressor.comparison.ledger.rows.reproduce_row", called)
    monkeypatch.setattr("compressor.cli.process.prepare_process", lambda *_, **__: None)
    return calls


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Put a stand-in where the command measures a table; the first pair's kd cell has the record of `ROW`."""
    calls: list[dict[str, Any]] = []

    def called(table: Any, config_for: Any, **options: Any) -> TableRun:
        calls.append({"table": table, "config_for": config_for, **options})
        pair = options["pairs"][0]
        cells = (cell_of(pair, "kd", find_record(ROW)), cell_of(pair, "sskd", None, reason="no memory left"))
        return TableRun(table=table, cells=cells, records=(Path("there/records/x.json"),), folder=Path("there"))

    import_module("compressor.comparison.ledger.tables")
    monkeypatch.setattr("compressor.comparison.ledger.tables.measure_table", called)
    monkeypatch.setattr("compressor.cli.process.prepare_process", lambda *_, **__: None)
    return calls


def saved(folder: Path, values: Sequence[float] = (95.0,), **changes: Any) -> str:
    """Write the project's record with other seeds and return its path."""
    record = find_record(ROW)
    seeds = tuple(replace(record.seeds[0], seed=seed, top1=top1) for seed, top1 in enumerate(values))
    return str(write_record(replace(record, seeds=seeds, **changes), folder))


# The list


def test_the_list_shows_rows_and_tables_without_torch() -> None:
    script = (
        "import sys; from compressor.cli.main import main; code = main(['reproduce', '--list']); "
        "sys.stderr.write(str([code] + [name for name in ('torch', 'timm', 'scipy') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    header, *lines = done.stdout.splitlines()
    assert done.stderr == "[0]"
    assert header.startswith("row\tn\ttop1_mean\ttop1_sd\texpected_low")
    assert [line.split("\t")[0] for line in lines] == list(all_records())


def test_the_list_on_a_terminal_as_json_and_quiet(compress: Any) -> None:
    said = compress("reproduce", "--list", terminal=True)
    assert f"{ROW}" in said.out
    assert "sskd-table" in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines())
    document = json.loads(compress("reproduce", "--list", "--json").out)
    assert document["tables"] == ["imagenet", "repdistiller", "sskd"]
    assert {row["row"] for row in document["rows"]} == set(all_records())
    assert compress("reproduce", "--list", "-q").out.splitlines()[-1] == "sskd-table"


# A row


def test_a_row_runs_its_recorded_seeds_or_those_that_are_asked_for(compress: Any, rows: list[Any]) -> None:
    said = compress("reproduce", ROW, "--threads", "1", "-o", "there", "--data-dir", "data")
    assert said.code == 0
    assert compress("reproduce", ROW, "--seeds", "2", "--time-budget", "9m").code == 0
    first, second = rows
    assert (first["record"].row, first["seeds"], first["out"]) == (ROW, [0, 1, 2], Path("there"))
    assert (first["runtime"].threads, first["directory"]) == (1, "data")
    assert second["seeds"] == [0, 1]
    assert 500 < second["budget"].left() <= 540


def test_inside_is_told_with_n_and_interval_and_ends_with_0(compress: Any, rows: list[Any]) -> None:
    said = compress("reproduce", ROW)
    assert said.code == 0
    assert said.out.splitlines()[0] == "seed\trecorded\tnow\tsame weights"
    assert said.out.splitlines()[1].endswith("\tyes")
    assert "(n = 3) recorded: inside [" in said.err
    assert "note: torch: 3.0 now, 2.0 recorded" in said.err
    assert compress("reproduce", ROW, "-q").out == "there\n"
    document = json.loads(compress("reproduce", ROW, "--json").out)
    assert (document["status"], document["inside"], document["equal_students"]) == ("done", True, 3)
    table = compress("reproduce", ROW, terminal=True).out.splitlines()
    assert table[0].split("  ")[0] == "seed"


def test_outside_is_an_error_with_exit_code_6(compress: Any, rows: list[Any], tmp_path: Path) -> None:
    file = saved(tmp_path, [95.0, 95.5], summary=Summary(n=3, mean=80.0, sd=0.1, interval=None, expected=None))
    said = compress("reproduce", file)
    assert said.code == 6
    assert f"error: {ROW}: top-1 95.25 ± 0.35 (n = 2) now, 80.00 ± 0.10 (n = 3) recorded: outside [" in said.err
    document = json.loads(compress("reproduce", file, "--json").out)
    assert (document["exit"], document["code"], document["inside"]) == (6, "gate", False)


def test_a_row_of_one_seed_makes_no_claim(compress: Any, rows: list[Any], tmp_path: Path) -> None:
    summary = Summary(n=1, mean=80.0)
    said = compress("reproduce", saved(tmp_path, [95.0], summary=summary))
    assert said.code == 0
    assert "; one recorded seed makes no claim" in said.err


def test_failed_seeds_are_told_and_end_with_5(compress: Any, monkeypatch: pytest.MonkeyPatch, rows: list[Any]) -> None:
    def failing(record: Record, *_: Any, **__: Any) -> Reproduction:
        return Reproduction(row=record.row, judgement=None, failures=("kd s0: the disk is full",), folder=Path("there"))

    monkeypatch.setattr("compressor.comparison.ledger.rows.reproduce_row", failing)
    said = compress("reproduce", ROW)
    assert said.code == 5
    assert "kd s0: the disk is full" in said.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "which row? none was given"),
        ("digits-resnet20-resnet8-k", "no row named 'digits-resnet20-resnet8-k' in the ledger"),
        (f"{ROW} --epochs 3", f"{ROW} runs at its recorded settings, --epochs would change training.epochs"),
        (f"{ROW} --set training.lr=1", "runs at its recorded settings, --set would change training.lr"),
        (f"{ROW} --recipe sskd-cifar100", "runs at its recorded settings, not by --recipe sskd-cifar100"),
        (f"{ROW} --seeds 0", "--seeds must be >= 1, got 0"),
        (f"{ROW} --pair a:b", f"--pair is for tables; {ROW} is of one pair and method"),
        (f"{ROW} --methods kd", f"--methods is for tables; {ROW} is of one pair and method"),
        ("sskd-table", "sskd-table has 11 pairs: wrn_40_2:wrn_16_2, wrn_40_2:wrn_40_1,"),
        ("sskd-table --pair vgg13", "--pair 'vgg13' is not TEACHER:STUDENT"),
        ("sskd-table --pair all --methods kdd", "no method named 'kdd'"),
        ("sskd-table --pair all --methods kd,", "--methods 'kd,' has an empty name in it"),
        ("sskd-table --pair all --seeds 0", "--seeds must be >= 1, got 0"),
        ("skd-table --pair all", "no published table named 'skd'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    line: str, message: str, compress: Any, rows: list[Any], tables: list[Any]
) -> None:
    said = compress("reproduce", *line.split())
    assert said.code == 2
    assert message in said.err
    assert (rows, tables) == ([], [])


def test_the_environment_may_not_change_a_row_but_the_users_own_file_is_left_alone(
    compress: Any, rows: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "config" / "compress" / "config.toml"
    own.parent.mkdir(parents=True)
    own.write_text("[training]\nlr = 0.5\n")
    assert compress("reproduce", ROW).code == 0
    monkeypatch.setenv("COMPRESS_LR", "0.3")
    assert "COMPRESS_LR would change training.lr" in compress("reproduce", ROW).err
    assert len(rows) == 1


# A table


def test_a_table_hands_over_its_pairs_and_the_settings_of_its_recipe(compress: Any, tables: list[Any]) -> None:
    pairs = "resnet32x4:shufflenetv2,vgg13:vgg8"
    said = compress(
        "reproduce", "sskd-table", "--pair", pairs, "--methods", "kd, sskd", "--seeds", "2", "--time-budget", "9m"
    )
    assert said.code == 5  # one of the stand-in's cells failed
    [call] = tables
    assert [pair.name for pair in call["pairs"]] == pairs.split(",")
    assert (call["methods"], call["seeds"]) == (["kd", "sskd"], 2)
    assert 500 < call["budget"].left() <= 540
    pair = call["pairs"][0]
    given = {"teacher.name": pair.teacher, "student.name": pair.student, "method.name": "sskd"}
    config = call["config_for"](given)
    assert (config.data.source, config.training.epochs, config.training.lr) == ("torch/cifar100", 240, 0.01)
    assert (config.teacher_training.epochs, config.teacher_training.lr) == (240, 0.05)
    assert config.method.settings["head_epochs"] == 60


def test_fewer_epochs_of_a_table_are_the_teachers_too_unless_it_is_told(compress: Any, tables: list[Any]) -> None:
    compress("reproduce", "sskd-table", "--pair", "vgg13:vgg8", "--epochs", "3")
    compress("reproduce", "sskd-table", "--pair", "vgg13:vgg8", "--epochs", "3", "--set", "teacher_training.epochs=5")
    short, told = (call["config_for"]({}) for call in tables)
    assert (short.training.epochs, short.teacher_training.epochs) == (3, 3)
    assert (told.training.epochs, told.teacher_training.epochs) == (3, 5)


def test_all_pairs_of_a_table_are_asked_for_by_name(compress: Any, tables: list[Any]) -> None:
    compress("reproduce", "sskd-table", "--pair", "all")
    assert tables[0]["pairs"] == list(find_table("sskd").pairs)


def test_a_pair_of_which_nothing_was_published_is_measured_with_a_warning(compress: Any, tables: list[Any]) -> None:
    said = compress("reproduce", "sskd-table", "--pair", "resnet14:resnet8")
    assert "warning: resnet14:resnet8 is none of the table's pairs: nothing was published of it" in said.err
    assert tables[0]["pairs"][0].teacher == "cifar_resnet14"


def test_a_table_without_a_recipe_takes_its_data(compress: Any, tables: list[Any]) -> None:
    compress("reproduce", "repdistiller-table", "--pair", "vgg13:vgg8")
    compress("reproduce", "repdistiller-table", "--pair", "vgg13:vgg8", "-d", "digits")
    assert [call["config_for"]({}).data.source for call in tables] == ["torch/cifar100", "digits"]


def test_cells_stand_beside_the_paper(compress: Any, tables: list[Any]) -> None:
    said = compress("reproduce", "sskd-table", "--pair", "resnet32x4:shufflenetv2")
    header, kd, sskd = (line.split("\t") for line in said.out.splitlines())
    values = dict(zip(header, kd, strict=True))
    assert (values["method"], values["paper"], values["paper_rule_top1"], values["n"]) == ("kd", "74.45", "", "3")
    assert sskd[2:5] == ["78.61", "77.64", "0.24"]
    assert "xuguodong03/SSKD" in said.err
    shown = compress("reproduce", "sskd-table", "--pair", "resnet32x4:shufflenetv2", terminal=True).out
    assert "resnet32x4:shufflenetv2  paper  re-run" in shown
    assert "not recorded" in shown
    assert "sskd: failed: no memory left" in shown
    document = json.loads(compress("reproduce", "sskd-table", "--pair", "vgg13:vgg8", "--json").out)
    assert document["cells"][1]["reason"] == "no memory left"
    assert compress("reproduce", "sskd-table", "--pair", "vgg13:vgg8", "-q").out == "there\n"


# Records


def test_records_of_a_comparison_are_written_and_named(compress: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def called(*given: Any) -> list[Path]:
        asked.append(given)
        return [Path("records/a.json"), Path("records/b.json")]

    import_module("compressor.comparison.ledger.making")
    monkeypatch.setattr("compressor.comparison.ledger.making.record_comparison", called)
    assert compress("reproduce", "--record", "compare-x").out == "records/a.json\nrecords/b.json\n"
    document = json.loads(compress("reproduce", "mine", "--record", "compare-x", "--to", "there", "--json").out)
    assert document["records"] == ["records/a.json", "records/b.json"]
    assert asked == [(Path("compare-x"), Path("records"), None), (Path("compare-x"), Path("there"), "mine")]


def test_settings_whose_meaning_differs_here_say_so_in_the_help() -> None:
    root: Any = typer.main.get_command(application())
    shown = {item.name: item for item in root.commands["reproduce"].params}
    assert shown["epochs"].help == "Of a table: times the images are seen, by student and teacher."
    assert shown["data"].show_default == "of the table"
    assert next(item for item in SETTINGS if item.option == "epochs").help == "Times the training images are seen."
