"""Which rows a grid has, and what they are called."""

from collections.abc import Mapping
from typing import Any

import pytest

from compressor.comparison.contenders import Contender, contenders, equal_label, label_of, labels_of

VIEWS = {"scratch": 1, "kd": 1, "sskd": 4, "hsakd": 4, "pairs": 2}


@pytest.mark.parametrize(
    ("methods", "added"),
    [
        (["scratch", "kd"], []),
        (["scratch", "kd", "sskd"], [4]),
        (["scratch", "sskd"], [4]),
        (["scratch", "sskd", "hsakd", "pairs"], [2, 4]),
    ],
)
def test_methods_of_many_views_bring_a_row_of_equal_compute(methods: list[str], added: list[int]) -> None:
    rows = contenders(methods, VIEWS.__getitem__, equal_compute=True)
    assert [row.label for row in rows] == [*methods, *map(equal_label, added)]
    assert rows[len(methods) :] == [Contender(f"kd ({count} views)", "kd", {"views": count}) for count in added]
    assert len(contenders(methods, VIEWS.__getitem__, equal_compute=False)) == len(methods)


def test_row_that_kd_is_already_is_not_added_again() -> None:
    views = {"kd": 4, "sskd": 4}
    assert [row.label for row in contenders(["kd", "sskd"], views.__getitem__, equal_compute=True)] == ["kd", "sskd"]


def test_label_tells_the_settings() -> None:
    assert label_of("kd", {}) == "kd"
    assert label_of("kd", {"views": 4}) == "kd (4 views)" == equal_label(4)
    assert label_of("at", {"at_weight": 2.0, "stages": "1:1"}) == "at (at_weight 2.0, stages 1:1)"


@pytest.mark.parametrize(
    ("runs", "labels"),
    [
        ([("kd", {}), ("scratch", {})], ["kd", "scratch"]),
        ([("kd", {"kd_weight": 1.0}), ("kd", {"kd_weight": 1.0})], ["kd", "kd"]),
        ([("kd", {}), ("kd", {"kd_weight": 1.0})], ["kd", "kd (kd_weight 1.0)"]),
        ([("kd", {"views": 4}), ("sskd", {})], ["kd (4 views)", "sskd"]),
        ([("kd", {"views": 4, "kd_weight": 1.0}), ("kd", {"kd_weight": 1.0})], ["kd (4 views)", "kd"]),
    ],
)
def test_runs_are_named_by_what_tells_them_apart(runs: list[tuple[str, Mapping[str, Any]]], labels: list[str]) -> None:
    assert labels_of(runs) == labels
