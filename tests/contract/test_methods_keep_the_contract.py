"""Every installed method, ours and strangers', is held to the contract."""

from importlib.metadata import entry_points

import pytest

from compressor.registry import load_method
from compressor.testing import check_distiller

NAMES = sorted({point.name for point in entry_points(group="compressor.methods")})


@pytest.mark.parametrize("name", NAMES)
def test_method_keeps_the_contract(name: str) -> None:
    assert [str(fault) for fault in check_distiller(load_method(name))] == []


def test_the_five_of_ours_are_registered() -> None:
    assert {"scratch", "kd", "fitnet", "crd", "sskd"} <= set(NAMES)
