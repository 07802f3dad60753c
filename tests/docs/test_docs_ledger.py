"""The page of published and measured numbers is what the tables and records of the packages say."""

import json
import re
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from docs_pages import DOCS, script

from compressor.comparison.ledger.published import find_table
from compressor.comparison.ledger.records import Record, Summary, find_record, hash_of
from compressor.config.layers import Layer, resolve

ESTIMATES = json.loads((DOCS / "ledger_estimates.json").read_text(encoding="utf-8"))


def generator() -> ModuleType:
    return script("generate_ledger")


def record_of_a_cell(*, method: str = "sskd", summary: Summary, **settings: Any) -> Record:
    """Return a record of resnet32x4 to shufflenetv2 as the table's recipe trains it, but for ``settings``."""
    given = {key.replace("__", "."): value for key, value in settings.items()}
    names = {"teacher.name": "resnet32x4", "student.name": "shufflenetv2", "method.name": method}
    config = resolve([Layer("test", {**names, **given})], recipe="sskd-cifar100").config.identity()
    config.pop("seed")
    base = find_record("digits-resnet20-resnet8-kd")
    teacher = {**(base.teacher or {}), "top1": 79.02}
    row = f"sskd-resnet32x4-shufflenetv2-{method}"
    return replace(
        base, row=row, label=method, config=config, config_sha256=hash_of(config), summary=summary, teacher=teacher
    )


def cells(page: str, method: str, *, pair: str = "resnet32x4 to shufflenetv2") -> list[str]:
    section = page[page.index(f"### {pair}\n") :]
    line = next(line for line in section.splitlines() if line.startswith(f"| {method} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def summary_line(page: str) -> str:
    line = next(line for line in page.splitlines() if line.startswith("| `sskd-resnet32x4-shufflenetv2`"))
    return line.strip("| ").split("|")[-1].strip()


def test_the_generated_page_is_current() -> None:
    assert (DOCS / "reproduction.md").read_text(encoding="utf-8") == generator().page(), (
        "python docs/generate_ledger.py"
    )


def test_three_kinds_of_numbers_stand_in_columns_of_their_own() -> None:
    page = generator().page([])
    assert cells(page, "Method") == [
        "Method",
        "Paper",
        "Independent re-run",
        "Measured here",
        "By the paper's rule",
        "One H200, estimate",
    ]
    assert cells(page, "SSKD")[:5] == ["SSKD", "78.61", "77.64 ± 0.24 (n = 3)", "not measured", "not measured"]
    assert cells(page, "teacher")[3] == "not measured"
    assert "No row has been measured yet." in page


def test_a_measured_cell_gives_its_deviation_and_seeds() -> None:
    record = record_of_a_cell(summary=Summary(n=3, mean=78.2, sd=0.31, interval=(77.4, 79.0), expected=(77.1, 79.3)))
    page = generator().page([record])
    assert cells(page, "SSKD")[1:5] == ["78.61", "77.64 ± 0.24 (n = 3)", "78.20 ± 0.31 (n = 3)", "not recorded"]
    assert summary_line(page) == "78.20 ± 0.31 (n = 3)"
    assert cells(page, "teacher")[3] == "79.02 (n = 1, no claim)"
    assert cells(page, "KD")[3] == "not measured"


def test_one_seed_makes_no_claim_on_the_page() -> None:
    page = generator().page([record_of_a_cell(summary=Summary(n=1, mean=78.2))])
    assert cells(page, "SSKD")[3] == summary_line(page) == "78.20 (n = 1, no claim)"


def test_the_best_epoch_on_test_images_has_a_column_of_its_own() -> None:
    record = record_of_a_cell(summary=Summary(n=1, mean=78.2))
    seeds = (replace(record.seeds[0], paper_rule_top1=78.9),)
    assert cells(generator().page([replace(record, seeds=seeds)]), "SSKD")[3:5] == [
        "78.20 (n = 1, no claim)",
        "78.90",
    ]


def test_another_precision_is_said_beside_the_number() -> None:
    summary = Summary(n=2, mean=78.2, sd=0.1)
    page = generator().page([record_of_a_cell(summary=summary, training__precision="bf16")])
    assert cells(page, "SSKD")[3] == "78.20 ± 0.10 (n = 2), bf16"


@pytest.mark.parametrize(
    "settings",
    [
        {"training__epochs": 2},
        {"teacher_training__epochs": 30},
        {"data__fraction": 25.0},
        {"data__label_noise": 0.1},
        {"training__lr": 0.05},
        {"training__select": "best", "data__val_split": 0.1},
        {"data__source": "digits"},
        {"student__name": "shufflenetv1"},
    ],
)
def test_a_run_by_other_settings_than_the_tables_is_no_cell_of_it(settings: dict[str, Any]) -> None:
    record = record_of_a_cell(summary=Summary(n=3, mean=11.11, sd=0.1), **settings)
    page = generator().page([record])
    assert cells(page, "SSKD")[3] == "not measured"
    assert "11.11 ± 0.10 (n = 3)" in page  # among the rows that can be measured again


def test_a_paper_estimate_stands_beside_every_cell_and_follows_its_formula() -> None:
    table = find_table("sskd")
    assert set(ESTIMATES["minutes"]) == {pair.name for pair in table.pairs}
    assert all(set(ESTIMATES["minutes"][pair.name]) == set(pair.published) for pair in table.pairs)
    assumed, networks = ESTIMATES["assumed"], ESTIMATES["networks"]
    teacher, student = networks["resnet32x4"]["forward"], networks["resnet8x4"]["forward_and_backward"]
    kernels = teacher["kernels"] + student["kernels"] + assumed["optimizer_kernels"] + assumed["loss_kernels"]
    step = max(kernels * assumed["seconds_per_launch"], (teacher["ms"] + student["ms"]) / 1000)
    assert ESTIMATES["minutes"]["resnet32x4:resnet8x4"]["kd"] == pytest.approx(782 * 240 * step / 60, abs=0.06)
    assert cells(generator().page([]), "KD", pair="resnet32x4 to resnet8x4")[-1] == "4 min"


def test_counted_operations_are_those_of_the_networks() -> None:
    # Multiply-adds of one image, from the papers' own counts, twice and 64 times over.
    for name, millions in (("resnet32x4", 1083.0), ("wrn_40_2", 327.6), ("shufflenetv2", 44.5)):
        counted = ESTIMATES["networks"][name]
        assert counted["forward"]["gflop"] == pytest.approx(2 * 64 * millions / 1000, rel=0.01)
        both = counted["forward_and_backward"]["gflop"]
        assert both == pytest.approx(3 * counted["forward"]["gflop"], rel=0.01)


def test_no_estimate_is_called_a_measurement() -> None:
    page = generator().page([])
    assert "Nothing of it was measured." in page
    assert len(re.findall(r"\| \d+ min \|", page)) == sum(len(pair.published) for pair in find_table("sskd").pairs)
