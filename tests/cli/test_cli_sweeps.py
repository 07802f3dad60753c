"""Several values for one option of ``compare``: what is asked of the comparison and how its outcome is told."""

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compressor.cli.options import SCENARIO, SETTINGS
from compressor.cli.tables import sweep_table, sweep_tsv


def _row(method: str, mean: float | None, sd: float | None = None, pair: str = "T -> S") -> SimpleNamespace:
    empty = dict.fromkeys(("difference", "interval", "parameters", "macs", "latency_ms", "train_seconds"))
    status = "failed" if mean is None else "done"
    more = {"verdict": "", "status": status, "reason": "", "n": 3}
    return SimpleNamespace(method=method, pair=pair, top1_mean=mean, top1_sd=sd, **empty, **more)


ROWS = [(25.0, [_row("teacher", 91.84), _row("kd", 60.04, 0.5)]), (50.0, [_row("teacher", 91.84), _row("kd", None)])]


@dataclass
class Comparison:
    """Stands for the comparison at one value."""

    rows: list[Any]
    verdict: str = "kd is ahead."
    failed: tuple[Any, ...] = ()


class Sweep(SimpleNamespace):
    """Stands for what a sweep returned."""

    def document(self) -> dict[str, Any]:
        return {"schema": 1, "status": "done", "exit": self.exit_code}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Put a stand-in where the command reaches for the sweep, and return what it was called with."""
    made: list[dict[str, Any]] = []
    pairs = [(value, Comparison(rows)) for value, rows in ROWS]

    def called(config_for: Any, **options: Any) -> Sweep:
        made.append({"config_for": config_for, **options})
        return Sweep(option="fraction", pairs=pairs, folder=Path("there"), page=Path("there/sweep.html"), exit_code=0)

    import_module("compressor.comparison.sweep")
    monkeypatch.setattr("compressor.comparison.sweep.sweep", called)
    monkeypatch.setattr("compressor.cli.process.prepare_process", lambda *_, **__: None)
    return made


def test_several_values_are_handed_over_and_each_makes_its_own_settings(compress: Any, calls: list[Any]) -> None:
    said = compress("compare", "--methods", "kd", "--seeds", "2", "-o", "there", "--fraction", "25, 50,25", "--lr", "1")
    assert said.code == 0
    [call] = calls
    assert (call["option"], call["key"], call["values"]) == ("fraction", "data.fraction", (25.0, 50.0))
    assert (call["methods"], call["seeds"], call["out"]) == (["kd"], 2, Path("there"))
    config = call["config_for"]({"data.fraction": 50.0, "seed": 1})
    assert (config.data.fraction, config.seed, config.training.lr) == (50.0, 1, 1.0)


@pytest.mark.parametrize(("option", "text"), [("shots", "5,10"), ("label-noise", "0,0.2"), ("imbalance", "1,10")])
def test_every_option_of_a_scenario_can_be_swept(option: str, text: str, compress: Any, calls: list[Any]) -> None:
    assert compress("compare", "--methods", "kd", f"--{option}", text).code == 0
    [call] = calls
    assert call["key"] == next(setting.key for setting in SETTINGS if setting.option == option)
    assert [f"{value:g}" for value in call["values"]] == text.split(",")
    for value in call["values"]:
        assert getattr(call["config_for"]({call["key"]: value}).data, option.replace("-", "_")) == value


def test_one_value_is_no_sweep(compress: Any, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def stand_in(config_for: Any, **_: Any) -> Any:
        asked.append(config_for({}).data.fraction)
        raise KeyboardInterrupt

    import_module("compressor.comparison.grid")
    monkeypatch.setattr("compressor.comparison.grid.compare", stand_in)
    compress("compare", "--methods", "kd", "--fraction", "25")
    assert (asked, calls) == ([25.0], [])


def test_the_outcome_is_a_table_on_stdout_and_verdicts_beside_it(compress: Any, calls: list[Any]) -> None:
    said = compress("compare", "--methods", "kd", "--fraction", "25,50")
    assert said.out.splitlines()[0].startswith("fraction\tmethod\tpair\tn\ttop1_mean")
    assert said.out.splitlines()[2].startswith("25\tkd\tT -> S\t3\t60.04")
    assert "fraction 25: kd is ahead." in said.err
    assert "picture: there/sweep.html" in said.err
    assert compress("compare", "--methods", "kd", "--fraction", "25,50", "-q").out == "there\n"
    assert json.loads(compress("compare", "--methods", "kd", "--fraction", "25,50", "--json").out)["exit"] == 0


def test_a_condition_must_hold_at_every_value(compress: Any, calls: list[Any]) -> None:
    met = compress("compare", "--methods", "kd", "--fraction", "25,50", "--fail-under", "kd>=50")
    assert met.code == 6
    assert "fraction 50: " in met.err
    document = json.loads(
        compress("compare", "--methods", "kd", "--fraction", "25,50", "--fail-under", "kd>=50", "--json").out
    )
    assert (document["exit"], document["code"]) == (6, "gate")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--fraction 25,50 --label-noise 0,0.2", "--fraction and --label-noise both have several values"),
        ("--fraction 25,,50", "--fraction '25,,50' has an empty value in it"),
        ("--fraction 25,half", "--fraction must be a percentage, got 'half'"),
        ("--fraction 25,500", "data.fraction must be 1 to 100 percent, got 500.0 (from --fraction)"),
        ("--fraction 25,50 --fraction 75", "data.fraction is given twice, once as --fraction 25,50"),
        ("--fraction 25,50 --set data.fraction=75", "data.fraction is given twice: --fraction says 25.0, --set says"),
        ("--fraction 25,50 --shots 3", "data.fraction must be 100 where data.shots is given, got 25.0"),
    ],
)
def test_values_that_cannot_be_are_refused_before_anything_runs(
    line: str, message: str, compress: Any, calls: list[Any]
) -> None:
    said = compress("compare", "--methods", "kd", *line.split())
    assert said.code == 2
    assert message in said.err
    assert calls == []


def test_distill_says_where_several_values_belong(compress: Any) -> None:
    said = compress("distill", "--label-noise", "0,0.2")
    assert said.code == 2
    assert "error: --label-noise must be a number, got '0,0.2'\nhint:  several values: compress compare" in said.err


def test_print_config_shows_the_settings_beside_the_sweep(compress: Any) -> None:
    said = compress("compare", "--fraction", "25,50", "--epochs", "7", "--print-config")
    assert "epochs = 7  # --epochs" in said.out


def test_tables_have_a_column_a_value_or_a_line_a_row() -> None:
    assert sweep_table("fraction", ROWS, 80).splitlines() == [
        "top-1 by fraction  25          50",
        "teacher            91.8        91.8",
        "kd                 60.0 ± 0.5  failed",
    ]
    two = [(1.0, [_row("kd", 1.0, pair="A"), _row("kd", 2.0, pair="B")])]
    assert sweep_table("shots", two, 80).split("\n\n")[1].splitlines()[0] == "B"
    assert sweep_tsv("fraction", ROWS).splitlines()[-1].startswith("50\tkd\tT -> S\t3\t\t")


def test_the_scenario_options_are_settings() -> None:
    assert set(SCENARIO) <= {setting.option for setting in SETTINGS}
