"""``compress probe`` hands over what was typed and prints one accuracy."""

import json
from importlib import import_module
from typing import Any

import pytest

VALUES: dict[str, Any] = {
    "model": "runs/x",
    "data": "digits",
    "classes": 10,
    "train": 1258,
    "test": 539,
    "embedding": 64,
    "top1": 82.504,
    "top1_sd": 0.39,
    "seeds": [{"seed": 0, "top1": 82.1}, {"seed": 1, "top1": 82.9}],
    "seconds": 19.3,
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []

    def stand_in(model: str, config: Any, settings: Any, **_: Any) -> dict[str, Any]:
        made.append((model, config, settings))
        return VALUES

    import_module("compressor.engine.probe")
    monkeypatch.setattr("compressor.engine.probe.probe", stand_in)
    monkeypatch.setattr("compressor.cli.process.prepare_process", lambda *_, **__: None)
    return made


def test_options_reach_the_probe(compress: Any, calls: list[Any]) -> None:
    line = "probe runs/x -d digits --img-size 16 --epochs 3 --batch-size 32 --lr 0.5 --seeds 2 --no-augment"
    assert compress(*line.split()).code == 0
    [(model, config, settings)] = calls
    assert (model, config.data.source, config.data.image_size) == ("runs/x", "digits", 16)
    assert (settings.epochs, settings.batch_size, settings.lr) == (3, 32, 0.5)
    assert (settings.seeds, settings.augment) == (2, False)


def test_without_options_the_published_protocol_is_run(compress: Any, calls: list[Any]) -> None:
    compress("probe", "runs/x")
    [(_, _, settings)] = calls
    assert (settings.epochs, settings.batch_size, settings.lr, settings.weight_decay) == (100, 64, 0.1, 0.0)
    assert (settings.milestones, settings.decay, settings.augment) == ((0.3, 0.6, 0.9), 0.1, True)


def test_the_accuracy_is_told_with_its_seeds(compress: Any, calls: list[Any]) -> None:
    assert compress("probe", "runs/x").out.splitlines() == [
        "top1        82.50 ± 0.39 (2 seeds, last epoch)",
        "data        digits, 10 classes, 1,258 train, 539 test",
        "embedding   64 of runs/x",
        "seconds     19.3",
    ]
    assert compress("probe", "runs/x", "-q").out == "82.50\n"
    document = json.loads(compress("probe", "runs/x", "--json").out)
    assert document == {"schema": 1, "status": "done", "exit": 0, **VALUES}


def test_a_number_of_epochs_that_cannot_be_is_refused(compress: Any, calls: list[Any]) -> None:
    said = compress("probe", "runs/x", "--epochs", "0")
    assert (said.code, calls) == (2, [])
    assert "error: --epochs must be >= 1, got 0" in said.err
