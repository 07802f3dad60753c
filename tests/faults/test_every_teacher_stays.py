"""P2: whatever method learns from a teacher, its weights and BatchNorm buffers are byte for byte as they were."""

from dataclasses import fields
from importlib.metadata import entry_points

import pytest
from fault_runs import Stage, distill, environ, weights
from figures import note

from compressor.distiller import Distiller
from compressor.registry import load_method

NAMES = sorted({point.name for point in entry_points(group="compressor.methods")} - {"scratch"})
QUICK = {"negatives": 16, "feature_dim": 8}


def taught(name: str) -> bool:
    method: type[Distiller[object]] = load_method(name)
    return method.needs.teacher and not method.needs.own_teacher


def quick(name: str) -> dict[str, object]:
    """Settings that make a method's own phases one epoch long, and its memory small."""
    known = [field.name for field in fields(load_method(name).Config)]
    short = {key: 1 for key in known if key.endswith("epochs")} | {key: QUICK[key] for key in known if key in QUICK}
    return {f"method__{key}": value for key, value in short.items()}


@pytest.mark.parametrize("name", NAMES)
def test_teacher_of_every_method_is_byte_for_byte_as_it_was(name: str, stage: Stage) -> None:
    place = stage.place()
    bank = place / "cache" / "compress" / "teachers"
    before = weights(bank)
    assert len(before) == 1
    args = distill(name, training__epochs=1, **quick(name))
    done = stage.server.run("teacher_before_and_after", place, environ(place), args=args)
    assert done.status == 0, done.output
    assert weights(bank) == before
    seen = [words for words in done.said if words.startswith("teacher is")]
    assert len(seen) == (2 if taught(name) else 0)
    assert len(set(seen)) <= 1
    note("P2", tried=1, exits=[0])
