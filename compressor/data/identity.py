"""Hashes that tell one data set from another: pixels or files, labels, splits."""

import hashlib
from collections.abc import Sequence

from torch import Tensor

from compressor.data.stores import Images, ObjectImages, read_or_refuse

_CHUNK = 4096
_SAMPLED = 256


def hash_pixels(images: Tensor, labels: Tensor, rows: Tensor) -> bytes:
    """Return a digest of the images (M, C, H, W) and labels (M,) at ``rows``, in that order."""
    digest = hashlib.sha256(f"{images.dtype} {tuple(images.shape[1:])} {len(rows)}".encode())
    for start in range(0, len(rows), _CHUNK):
        digest.update(images[rows[start : start + _CHUNK]].contiguous().numpy().data)
    digest.update(_plain(labels[rows]))
    return digest.digest()


def hash_listing(images: Images, labels: Tensor, rows: Tensor) -> bytes:
    """Return a digest of names, sizes and labels at ``rows``, without decoding files.

    What a Python object returns has no name or size to go by: there the pixels of up to 256 evenly spaced ones count.
    """
    digest = hashlib.sha256(f"{len(rows)}".encode())
    for row in rows.tolist():
        identity = images.identity(row)
        digest.update(len(identity).to_bytes(8, "big") + identity)
    if isinstance(images, ObjectImages):
        for place in spaced(len(rows)):
            digest.update(read_or_refuse(images, int(rows[place])).contiguous().numpy().data)
    digest.update(_plain(labels[rows]))
    return digest.digest()


def combine(facts: str, digests: Sequence[bytes | None]) -> str:
    """Join digests of splits, in order, with what else decides what a run sees; None stands for a missing split."""
    total = hashlib.sha256(facts.encode())
    for digest in digests:
        total.update(b"-" if digest is None else b"+" + digest)
    return total.hexdigest()


def spaced(count: int, most: int = _SAMPLED) -> list[int]:
    """Return up to ``most`` evenly spaced positions of ``count``, the first among them."""
    wanted = min(count, most)
    return [place * count // wanted for place in range(wanted)]


def _plain(labels: Tensor) -> bytes:
    return labels.long().contiguous().numpy().tobytes()
