"""N1, N5, N6, P2: numbers that are not finite, other threads, ties and single seeds; the teacher stays as it was."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_runs import Stage, compare, distill, weights
from figures import note

from compressor.storage import read_tensors


def numbers(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers(item)
    elif isinstance(value, float):
        yield value


def all_finite(place: Path) -> bool:
    """Whether every number below a folder is finite: in JSON, in lines of events, in the table, in weights."""
    texts = [*place.rglob("*.json"), *place.rglob("*.jsonl")]
    documents = [json.loads(line) for file in texts for line in documents_of(file)]
    assert documents
    tensors = [tensor for file in place.rglob("*.safetensors") for tensor in read_tensors(file).values()]
    return all(math.isfinite(number) for document in documents for number in numbers(document)) and all(
        bool(tensor.isfinite().all()) for tensor in tensors
    )


def documents_of(file: Path) -> list[str]:
    text = file.read_text()
    return text.splitlines() if file.suffix == ".jsonl" else [text]


@pytest.mark.parametrize("rate", [1e3, 1e6, 1e8])
def test_rate_that_is_too_high_ends_with_exit_5_and_nothing_that_is_not_finite_is_kept(
    rate: float, stage: Stage
) -> None:
    place = stage.place()
    args = distill(training__lr=rate, training__epochs=8, training__select="best")
    first = stage.run(args, place)
    assert first.status == 5, first.output
    assert "Traceback" not in first.output
    told = first.output[first.output.index("error: ") :]
    assert "loss became" in told
    assert "at step" in told
    assert "term" in told
    assert f"lr {rate:g}" in told
    assert all_finite(place)
    assert not (place / "run" / "student").exists()
    kept = weights(place)
    again = stage.run(args, place)
    assert again.status == 5
    assert weights(place) == kept  # the last good checkpoint was not advanced
    note("N1", tried=1, exits=[5, 5])


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_network_with_weights_that_are_not_finite_is_never_a_teacher(poison: float, stage: Stage) -> None:
    place = stage.place()
    [file] = place.glob("cache/compress/teachers/*/model.safetensors")
    arrays = {name: tensor.clone() for name, tensor in read_tensors(file).items()}
    next(iter(arrays.values())).view(-1)[0] = poison
    from safetensors.torch import save_file

    save_file(arrays, place / "poisoned.safetensors")
    child = stage.run([*distill(), "--teacher-weights", "poisoned.safetensors"], place)
    assert child.status == 3, child.output
    assert "poisoned.safetensors" in child.output
    assert not (place / "run" / "result.json").exists()
    note("N1", tried=1, exits=[3])


def test_single_seed_makes_no_claim_and_has_no_spread(stage: Stage) -> None:
    place = stage.place()
    done = stage.run(compare(training__epochs=1), place)
    assert done.status == 0, done.output
    rows = {row["method"]: row for row in json.loads((place / "comparison" / "table.json").read_text())["rows"]}
    assert (rows["kd"]["n"], rows["kd"]["top1_sd"], rows["kd"]["p_value"]) == (1, None, None)
    assert rows["kd"]["verdict"] == "one seed, no claim"
    card = next(place.glob("comparison/cells/*kd*/student/README.md")).read_text()
    assert "n=1: no spread" in card
    note("N6", tried=1, exits=[0])


def test_all_equal_metrics_are_a_tie_and_nothing_is_divided_by_zero(stage: Stage) -> None:
    place = stage.place()
    # A rate of next to nothing leaves every student where all of one seed begin: each gap is exactly zero.
    args = compare("kd", seeds=3, training__epochs=1, training__lr=1e-30, training__weight_decay=0.0)
    done = stage.run(args, place)
    assert done.status == 0, done.output
    rows = {row["method"]: row for row in json.loads((place / "comparison" / "table.json").read_text())["rows"]}
    assert rows["kd"]["difference"] == 0.0
    assert rows["kd"]["verdict"] == "not separated"
    assert all(math.isfinite(number) for row in rows.values() for number in numbers(row))
    note("N6", tried=1, exits=[0])


def test_other_number_of_threads_is_told_and_refused_when_strict(stage: Stage) -> None:
    place = stage.place()
    assert stage.run(distill(), place, die_at="run saved 8").status == -9
    strict = stage.run([*distill(runtime__threads=2), "--set", "runtime.strict=true"], place)
    assert strict.status == 3, strict.output
    assert "begun with 1 threads, going on with 2: bits may differ" in strict.output
    told = stage.run(distill(runtime__threads=2), place)
    assert told.status == 0, told.output
    assert "warning: begun with 1 threads, going on with 2: bits may differ" in told.output
    note("N5", tried=2, exits=[3, 0])


def test_teacher_in_the_bank_is_byte_for_byte_the_same_after_every_command(stage: Stage) -> None:
    place = stage.place()
    before = weights(place / "cache" / "compress" / "teachers")
    assert len(before) == 1
    for args in (distill(), distill("sskd", out="other", training__epochs=1), compare(training__epochs=1)):
        assert stage.run(args, place).status == 0
    assert weights(place / "cache" / "compress" / "teachers") == before
    taught = {
        json.loads(file.read_text())["teacher"]["sha256"]
        for file in place.rglob("result.json")
        if "scratch" not in str(file)
    }
    assert len(taught) == 1
    note("P2", tried=3, exits=[0, 0, 0])
