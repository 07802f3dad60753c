"""Records of the ledger: made of finished runs, read strictly, and judged by what their seeds allow."""

import hashlib
import json
import math
import re
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_ledger import ENVIRONMENT, made_up_record, run_config, write_comparison, write_ledger_run

from compressor.comparison.budget import Budget
from compressor.comparison.ledger.judgement import differences_of, expected_interval, judge
from compressor.comparison.ledger.making import make_record, record_comparison, records_of_comparison, row_name
from compressor.comparison.ledger.published import all_tables, find_table
from compressor.comparison.ledger.records import all_records, find_record, read_record, write_record
from compressor.comparison.ledger.rows import config_of
from compressor.config.settings import RunConfig, RuntimeConfig
from compressor.engine.history import read_run
from compressor.errors import InputError, Stopped, UsageError


def runs_of(folder: Path, *, values: tuple[float, ...] = (60.0, 61.0, 65.0)) -> list[Any]:
    places = [write_ledger_run(folder / f"s{seed}", run_config(seed), top1) for seed, top1 in enumerate(values)]
    return [read_run(place) for place in places]


# What seeds allow to be said


def test_the_interval_of_another_mean_equals_a_value_worked_by_hand() -> None:
    # Two seeds have one degree of freedom: t = 12.7062. One more seed: 12.7062 * 2 * sqrt(1/2 + 1) = 31.1238.
    low, high = expected_interval(50.0, 2.0, 2, 1) or (math.nan, math.nan)
    assert (low, high) == pytest.approx((50 - 31.1238, 50 + 31.1238), abs=1e-3)


@pytest.mark.parametrize(("recorded", "seeds"), [(3, 3), (5, 1), (3, 10)])
def test_another_mean_lies_inside_in_95_of_100_cases(recorded: int, seeds: int) -> None:
    draws = np.random.default_rng(0)
    tries = 4000
    then = draws.normal(70.0, 0.3, (tries, recorded))
    now = draws.normal(70.0, 0.3, (tries, seeds)).mean(1)
    inside = 0
    for values, mean in zip(then, now, strict=True):
        low, high = expected_interval(values.mean(), values.std(ddof=1), recorded, seeds) or (0.0, 0.0)
        inside += low <= mean <= high
    assert inside / tries == pytest.approx(0.95, abs=0.012)


def test_one_recorded_seed_makes_no_claim() -> None:
    record = made_up_record([70.0])
    judgement = judge(record, made_up_record([10.0, 11.0]).seeds)
    assert (judgement.expected, judgement.inside, judgement.exit_code) == (None, None, 0)
    assert judgement.sentence().endswith("; one recorded seed makes no claim")
    assert record.summary.interval is None


def test_inside_and_outside_are_told_with_n_and_interval() -> None:
    record = made_up_record([70.0, 70.2, 70.4])
    inside, outside = (judge(record, made_up_record(values).seeds) for values in ([70.5, 70.6, 70.1], [72.0]))
    assert (inside.inside, inside.exit_code) == (True, 0)
    assert re.search(r"70\.40 ± 0\.26 \(n = 3\) now, 70\.20 ± 0\.20 \(n = 3\) recorded: inside \[", inside.sentence())
    assert (outside.inside, outside.exit_code) == (False, 6)
    low, high = outside.expected or (0.0, 0.0)
    assert f"outside [{low:.2f}, {high:.2f}], where the mean of 1 seed lies" in outside.sentence()
    assert json.loads(json.dumps(outside.document()))["inside"] is False


def test_equal_values_without_any_spread_are_inside() -> None:
    record = made_up_record([70.0, 70.0])
    assert judge(record, record.seeds).inside is True
    assert judge(record, made_up_record([70.01]).seeds).inside is False


def test_students_of_the_same_weights_are_counted() -> None:
    record = made_up_record([70.0, 70.2, 70.4])
    other = replace(record.seeds[1], student_sha256="f" * 64)
    assert judge(record, record.seeds).equal_students == 3
    assert judge(record, [record.seeds[0], other]).equal_students == 1


def test_what_differs_between_then_and_now_is_said() -> None:
    then = made_up_record([70.0, 70.2])
    teacher = {**(then.teacher or {}), "sha256": "8" * 64, "top1": 69.5}
    now = replace(then, teacher=teacher, environments=({**ENVIRONMENT, "torch": "3.0"},))
    assert differences_of(then, now) == [
        "the teacher's weights are others: top-1 69.50 now, 70.00 recorded",
        "torch: 3.0 now, 2.15.0 recorded",
    ]
    assert differences_of(then, then) == []


# From runs to records


def test_a_record_holds_what_its_runs_wrote(tmp_path: Path) -> None:
    record = make_record("row", "kd", list(reversed(runs_of(tmp_path))))
    assert [(value.seed, value.top1, value.top1_last) for value in record.seeds] == [
        (0, 60.0, 60.0),
        (1, 61.0, 61.0),
        (2, 65.0, 65.0),
    ]
    assert record.summary.mean == pytest.approx(62.0)
    assert record.summary.sd == pytest.approx(statistics.stdev([60.0, 61.0, 65.0]))
    assert record.environments == (ENVIRONMENT,)
    assert record.schedule.startswith("6 epochs of 50,000 images in batches of 50; sgd, rate 0.05, times 0.1 after")
    assert record.selection == "the last epoch, chosen on nothing"
    assert record.method_settings["kd_temperature"] == 4.0
    assert (record.teacher or {})["origin"] == "weights from a file"


def test_a_student_without_a_teacher_has_none_in_its_record_whoever_shared_its_loop(tmp_path: Path) -> None:
    place = write_ledger_run(tmp_path / "run", run_config(method="scratch"), 60.0)
    assert make_record("row", "scratch", [read_run(place)]).teacher is None


def test_hashes_are_those_of_the_settings_without_the_place_of_the_data(tmp_path: Path) -> None:
    record = make_record("row", "kd", runs_of(tmp_path))
    elsewhere = replace(run_config(1), data=replace(run_config(1).data, directory=None))
    assert record.seeds[1].config_sha256 == elsewhere.sha256
    text = json.dumps(record.config, sort_keys=True, separators=(",", ":"))
    assert record.config_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert "seed" not in record.config
    assert "somebody" not in json.dumps(record.document())


def test_accuracies_of_other_epochs_are_taken_where_they_were_recorded(tmp_path: Path) -> None:
    metrics = {"top1": 60.0, "top1_last": 60.0, "top1_best": 59.0, "paper_rule_top1": 61.5}
    place = write_ledger_run(tmp_path / "run", run_config(), 60.0, metrics=metrics)
    [value] = make_record("row", "kd", [read_run(place)]).seeds
    assert (value.top1_last, value.top1_best, value.paper_rule_top1) == (60.0, 59.0, 61.5)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (run_config(1, lr=0.1), {}, r"s0 and .*s1 are no seeds of one row, they differ in training\.lr"),
        (run_config(1), {"data_sha256": "e" * 64}, "they differ in data_sha256"),
        (run_config(1), {"teacher_sha256": "e" * 64}, "they differ in teacher_sha256"),
        (run_config(0), {}, "two of the runs have the same seed"),
    ],
)
def test_runs_that_are_no_seeds_of_one_row_are_refused(
    tmp_path: Path, config: RunConfig, changes: dict[str, Any], message: str
) -> None:
    write_ledger_run(tmp_path / "s0", run_config(0), 60.0)
    write_ledger_run(tmp_path / "s1", config, 61.0, **changes)
    with pytest.raises(UsageError, match=message):
        make_record("row", "kd", [read_run(tmp_path / name) for name in ("s0", "s1")])


def test_a_run_that_nobody_can_repeat_is_refused(tmp_path: Path) -> None:
    config = replace(run_config(), student=replace(run_config().student, name="python:Net"))
    write_ledger_run(tmp_path / "run", config, 60.0)
    with pytest.raises(UsageError, match=r"row: student\.name was brought from Python"):
        make_record("row", "kd", [read_run(tmp_path / "run")])


def test_runs_that_are_unfinished_or_too_old_are_refused(tmp_path: Path) -> None:
    write_ledger_run(tmp_path / "old", run_config(), 60.0, data={"name": "digits"})
    with pytest.raises(InputError, match=r"old/result.json has no sha256: it cannot be recorded"):
        make_record("row", "kd", [read_run(tmp_path / "old")])
    (tmp_path / "old" / "result.json").unlink()
    with pytest.raises(InputError, match="old is not finished"):
        make_record("row", "kd", [read_run(tmp_path / "old")])


def test_a_comparison_gives_a_record_a_row_also_after_it_was_moved(tmp_path: Path) -> None:
    write_comparison(tmp_path / "first", {"scratch": [50.0, 51.0], "kd": [55.0, 57.0]})
    moved = (tmp_path / "first").rename(tmp_path / "second")
    files = record_comparison(moved, tmp_path / "records")
    assert [file.name for file in files] == [
        "cifar100-resnet20-resnet8-scratch.json",
        "cifar100-resnet20-resnet8-kd.json",
    ]
    assert read_record(files[1]).summary.mean == 56.0
    assert [record.row for record in records_of_comparison(moved, "mine")] == ["mine-scratch", "mine-kd"]


def test_a_record_is_not_written_over_another_one(tmp_path: Path) -> None:
    first, second = (write_comparison(tmp_path / name, {"kd": [value]}) for name, value in (("a", 50.0), ("b", 51.0)))
    [file] = record_comparison(first, tmp_path / "records")
    before = file.read_bytes()
    assert record_comparison(first, tmp_path / "records") == [file]
    with pytest.raises(UsageError, match="is there and says something else"):
        record_comparison(second, tmp_path / "records")
    assert file.read_bytes() == before


def test_folders_that_are_no_comparison_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no comparison: it has no cells\.json"):
        records_of_comparison(tmp_path)
    (tmp_path / "cells.json").write_text('[{"pair": 3}]')
    with pytest.raises(InputError, match="is damaged: it lists no cells"):
        records_of_comparison(tmp_path)


def test_one_name_for_several_pairs_is_refused(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "a", {"kd": [50.0, 51.0]})
    cells = json.loads((folder / "cells.json").read_text())
    cells[1]["pair"] = "other -> resnet8"
    (folder / "cells.json").write_text(json.dumps(cells))
    with pytest.raises(UsageError, match="holds several pairs, one name 'mine' is not enough"):
        records_of_comparison(folder, "mine")


def test_a_row_is_named_by_what_tells_it_from_others() -> None:
    config = run_config()
    small = replace(config, data=replace(config.data, fraction=25.0, label_noise=0.1))
    assert row_name(config.identity(), "kd") == "cifar100-resnet20-resnet8-kd"
    assert row_name(config.identity(), "kd (4 views)") == "cifar100-resnet20-resnet8-kd-4-views"
    assert row_name(config.identity(), "kd", first="sskd", usual_epochs=6) == "sskd-resnet20-resnet8-kd"
    assert row_name(config.identity(), "kd", first="sskd", usual_epochs=240) == "sskd-resnet20-resnet8-kd-6-epochs"
    unusual = run_config(precision="bf16", select="best").identity()
    assert row_name(unusual, "kd") == "cifar100-resnet20-resnet8-kd-bf16-best-epoch"
    assert row_name(small.identity(), "kd").endswith("kd-25-percent-of-each-class-10-percent-wrong-labels")


# Reading


def test_a_record_read_again_is_the_same_and_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    record = made_up_record([70.0, 70.2, 70.4])
    file = write_record(record, tmp_path)
    assert read_record(file) == record
    before = file.read_bytes()
    assert write_record(read_record(file), tmp_path).read_bytes() == before
    assert find_record(str(file)) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "is a record of schema 2, this version reads 1"),
        ({"seeds": None}, "is no record: seeds"),
        ({"more": 1}, "is no record: more"),
        ({"config": {"training": {"epochs": 1}}}, r"is no record: config\.teacher is missing"),
        (
            {"config": made_up_record([70.0], config=run_config(lr=0.1)).config},
            "was changed by hand: its settings are not those of config_sha256",
        ),
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = tmp_path / "row.json"
    file.write_text(json.dumps(made_up_record([70.0]).document() | change))
    with pytest.raises(InputError, match=message):
        read_record(file)


def test_an_unknown_row_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no row named 'digits-resnet20-resnet8-kdd'") as caught:
        find_record("digits-resnet20-resnet8-kdd")
    assert "digits-resnet20-resnet8-kd" in str(caught.value.hint)


# What comes with the package


@pytest.mark.parametrize("row", sorted(all_records()))
def test_a_record_of_the_project_is_whole(row: str) -> None:
    listed = all_records()[row]
    record = listed.record
    assert listed.file.name == f"{row}.json"
    assert judge(record, record.seeds).summary == record.summary
    assert not re.search(r"/(home|work|tmp|root|Users)\b", listed.file.read_text(encoding="utf-8"))
    config = config_of(record, RuntimeConfig())
    assert [replace(config, seed=value.seed).sha256 for value in record.seeds] == [
        value.config_sha256 for value in record.seeds
    ]


def test_the_published_tables_are_those_of_the_sources() -> None:
    tables = all_tables()
    assert {name: len(table.pairs) for name, table in tables.items()} == {"sskd": 11, "repdistiller": 5, "imagenet": 1}
    cross = tables["sskd"].pairs[5:]
    gains = [pair.published["sskd"] - pair.published["crd"] for pair in cross]
    assert len(gains) == 6
    assert statistics.mean(gains) == pytest.approx(2.3, abs=0.05)  # the paper's abstract
    for pair in tables["repdistiller"].pairs:  # KD was carried over from there, pair by pair
        theirs = tables["sskd"].pair(pair.teacher, pair.student)
        assert theirs is not None
        assert theirs.published["kd"] == pair.published["kd"]


def test_a_pair_of_a_table_is_found_by_short_names_that_are_ambiguous_elsewhere() -> None:
    table = find_table("sskd")
    assert table.named("vgg13:vgg8").published["sskd"] == 75.33
    assert table.named("cifar_resnet50:vgg8").name == "resnet50:vgg8"
    other = table.named("resnet14:resnet8")
    assert (other.teacher, other.published) == ("cifar_resnet14", {})
    with pytest.raises(UsageError, match="--pair 'vgg13' is not TEACHER:STUDENT"):
        table.named("vgg13")
    with pytest.raises(UsageError, match="resnet81"):
        table.named("vgg13:resnet81")
    with pytest.raises(UsageError, match="no published table named 'skd'"):
        find_table("skd")


# Running a row again


def test_a_row_runs_at_its_recorded_settings_also_where_a_default_changed() -> None:
    record = made_up_record([70.0])
    same = config_of(replace(record, method_settings={"kd_temperature": 4.0}), RuntimeConfig(threads=3))
    assert (same.method.settings, same.runtime.threads, same.training.epochs) == ({}, 3, 6)
    changed = config_of(replace(record, method_settings={"kd_temperature": 7.0}), RuntimeConfig())
    assert changed.method.settings == {"kd_temperature": 7.0}
    placed = config_of(record, RuntimeConfig(), "there")
    assert placed.data.directory == "there"


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("training", {"epochs": 6, "beauty": 1}, "this version has no setting training.beauty"),
        ("training", {"epochs": 0}, "this version refuses a recorded setting: training.epochs must be 1 to 100,000"),
    ],
)
def test_settings_that_this_version_does_not_have_are_refused(
    section: str, value: dict[str, Any], message: str
) -> None:
    record = made_up_record([70.0])
    with pytest.raises(UsageError, match=message):
        config_of(replace(record, config={**record.config, section: value}), RuntimeConfig())


def test_a_budget_counts_for_everything_and_ends_like_ctrl_c() -> None:
    clock = iter([100.0, 130.0, 159.0, 160.0])
    budget = Budget(60.0, now=lambda: next(clock))
    assert (budget.left(), budget.left()) == (30.0, 1.0)
    with pytest.raises(Stopped, match="Time budget spent") as caught:
        budget.left()
    assert caught.value.exit_code == 130
    assert Budget(None).left() is None
