"""A lane gives the same student alone and in company, and a teacher is never touched."""

from pathlib import Path

import pytest
import torch
from tiny_methods import plant
from tiny_runs import SHIPPED, student_sha, tiny_config, tiny_run

from compressor.engine.jobs import Cell
from compressor.engine.runs import run_cells
from compressor.storage import read_tensors

pytestmark = pytest.mark.usefixtures("tiny")


def test_every_shipped_method_gives_bit_equal_weights_alone_and_in_a_group() -> None:
    group = [Cell(tiny_config(method), Path("group") / method) for method in SHIPPED]
    outcomes = run_cells(group)
    assert [outcome.failure for outcome in outcomes] == [None] * len(SHIPPED)
    for method, outcome in zip(SHIPPED, outcomes, strict=True):
        assert outcome.result is not None
        alone = tiny_run(method, out=f"alone-{method}")
        assert student_sha(alone) == student_sha(outcome.result), method
        one, other = (read_tensors(run.student_folder / "model.safetensors") for run in (alone, outcome.result))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_methods_give_different_students() -> None:
    outcomes = run_cells([Cell(tiny_config(method), Path(method)) for method in SHIPPED])
    assert len({student_sha(outcome.result) for outcome in outcomes if outcome.result is not None}) == len(SHIPPED)


def test_method_that_asks_for_everything_is_the_same_in_company(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, demanding="tiny_methods:Demanding")
    alone = tiny_run("demanding", out="alone")
    cells = [Cell(tiny_config(method), Path("group") / method) for method in ("scratch", "demanding", "kd")]
    together = run_cells(cells)[1].result
    assert together is not None
    assert student_sha(alone) == student_sha(together)


def test_lanes_of_different_length_or_batches_stand_in_one_group_all_the_same() -> None:
    odd = tiny_config("kd", training__epochs=3)
    cells = [Cell(tiny_config("scratch"), Path("g/a")), Cell(odd, Path("g/b"))]
    outcome = run_cells(cells)[1].result
    assert outcome is not None
    assert student_sha(outcome) == student_sha(tiny_run("kd", training__epochs=3, out="alone"))
