"""Owned randomness: every draw is a function of (seed, purpose, counters), and of nothing else.

Nothing here reads or changes a global generator, so a run's position is its step counter alone: saved generator
states, worker counts and who else draws cannot change a result.
"""

import hashlib

import torch


def derive(seed: int, purpose: str, *counters: int) -> int:
    """Return a 63-bit number that is a function of its arguments alone, evenly spread over them."""
    text = "/".join([str(seed), purpose, *(str(counter) for counter in counters)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """Return a CPU generator seeded by `derive`; equal arguments give equal draws on every platform torch supports."""
    return torch.Generator().manual_seed(derive(seed, purpose, *counters))
