"""Every installed method runs forward and backward on real networks, or refuses them in words that say why."""

import re
from functools import cache

import pytest
from test_methods_keep_the_contract import NAMES

from compressor.registry import load_method
from compressor.testing.pairs import REAL_PAIRS, Networks, RealPair

SAME_FAMILY, CROSS_FAMILY, OF_TIMM, TRANSFORMER = REAL_PAIRS
REFUSALS = {
    ("ab", TRANSFORMER): r"ab needs pre-activations, and timm/test_vit shows none",
    ("fsp", OF_TIMM): r"fsp compares stages of equal width: stage0 of timm/test_resnet has 32 channels, .* has 64",
    ("fsp", TRANSFORMER): r"fsp compares stages of equal width: stage0 of cifar_resnet8 has 16 channels, .* has 64",
    (
        "hsakd",
        TRANSFORMER,
    ): r"timm/test_vit cannot have branches: its layers behind stage \d are not one chain of modules",
    ("hssakd", TRANSFORMER): r"timm/test_vit cannot have branches: its layers behind stage \d are not one chain of ",
    ("kdsvd", OF_TIMM): r"kdsvd compares stages of equal width: stage1 of timm/test_resnet has 32 channels, .* has 64",
    ("kdsvd", TRANSFORMER): r"kdsvd compares stages of equal width: stage1 of cifar_resnet8 has 16 channels, .* has 64",
}
"""Pairs that a method does not take, and what it says of them."""


@cache
def networks_of(pair: RealPair) -> Networks:
    return Networks(pair)


@pytest.mark.parametrize("pair", REAL_PAIRS, ids=lambda pair: pair.label)
@pytest.mark.parametrize("name", NAMES)
def test_method_runs_on_the_pair_or_says_what_is_missing(name: str, pair: RealPair) -> None:
    verdict = networks_of(pair).try_method(load_method(name))
    assert verdict.faults == ()
    expected = REFUSALS.get((name, pair))
    if expected is None:
        assert verdict.refused is None
    else:
        assert re.match(expected, verdict.refused or "")
        assert verdict.hint


def test_refusals_are_few_and_of_methods_that_are_there() -> None:
    assert len(REFUSALS) == 7
    assert {name for name, _ in REFUSALS} <= set(NAMES)
    assert not any(pair == SAME_FAMILY for _, pair in REFUSALS)
