"""Whoever asks for a precision that the processor has no units for is told so."""

from pathlib import Path

import pytest

from compressor.engine.precision import slow_on_cpu

X86 = "processor : 0\nmodel name : Some\nflags : fpu avx2 {units}\n\nprocessor : 1\nflags : fpu avx2 {units}\n"
ARM = "processor : 0\nFeatures : fp asimd {units}\n"


@pytest.mark.parametrize(
    ("text", "units", "precision", "slow"),
    [
        (X86, "avx512f", "bf16", True),
        (X86, "avx512_bf16", "bf16", False),
        (X86, "amx_bf16", "bf16", False),
        (X86, "amx_bf16", "fp16", True),
        (ARM, "bf16", "bf16", False),
        (ARM, "fphp", "bf16", True),
        (X86, "", "fp32", False),
    ],
)
def test_units_decide(isolated: Path, text: str, units: str, precision: str, slow: bool) -> None:
    told = isolated / "cpuinfo"
    told.write_text(text.format(units=units))
    assert slow_on_cpu(precision, told).startswith(f"--precision {precision} is many times slower" if slow else "")
    assert bool(slow_on_cpu(precision, told)) is slow


def test_where_nobody_tells_there_are_no_units(isolated: Path) -> None:
    assert "many times slower than fp32" in slow_on_cpu("bf16", isolated / "absent")
