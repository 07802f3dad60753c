"""Images as a source hands them over, before they are split, resized or moved to a device."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from compressor.data.images import (
    Size,
    UnreadableImage,
    fit,
    from_pil,
    quiet_decoder,
    read_file,
    reason_of,
    to_three_channels,
)
from compressor.errors import InputError


class Images(Protocol):
    """Images in a fixed order; reading one is a pure function of its position."""

    @property
    def normalised(self) -> bool:
        """Whether pixels are float32 that needs no further normalisation; else uint8."""
        ...

    @property
    def size(self) -> Size | None:
        """The height and width they all have; None when they differ."""
        ...

    def __len__(self) -> int: ...

    def read(self, position: int) -> Tensor:
        """Return (3, H, W); raises `UnreadableImage`."""
        ...

    def name(self, position: int) -> str:
        """Say which image this is, for messages."""
        ...

    def identity(self, position: int) -> bytes:
        """Return what tells this image from others without decoding it."""
        ...

    def take(self, positions: Sequence[int]) -> "Images":
        """Return the images at these positions, in that order."""
        ...


def check_labels(values: object, origin: str, num_classes: int | None = None) -> Tensor:
    """Return labels as (N,) int64; (N, 1) is flattened.

    Raises:
        InputError: they are not whole numbers from 0, or not below ``num_classes``; shows the first that is not.
    """
    labels = np.asarray(values)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels of {origin} are {labels.dtype} of shape {labels.shape}",
            hint="one whole number an image, from 0 to the number of classes - 1",
        )
    allowed = "0, 1, 2 ..." if num_classes is None else f"0 to {num_classes - 1}"
    wrong = np.flatnonzero((labels < 0) | (labels >= (num_classes or np.iinfo(np.int32).max)))
    if len(wrong):
        raise InputError(f"label {labels[wrong[0]]} of {origin}, image {wrong[0]}, is not one of {allowed}")
    return torch.from_numpy(labels.astype(np.int64))


@dataclass(frozen=True)
class Part:
    """Images and their labels, (N,) int64 from 0."""

    images: Images
    labels: Tensor

    def take(self, positions: Sequence[int]) -> "Part":
        """Return the images and labels at these positions, in that order."""
        return Part(self.images.take(positions), self.labels[torch.as_tensor(positions, dtype=torch.int64)])


@dataclass(frozen=True, kw_only=True)
class RawData:
    """What a source holds.

    Args:
        class_names: K names in label order.
        val: held out by the source itself; None where it has one evaluation part only.
        unreadable: images that were found and left out, each with its reason.
    """

    class_names: tuple[str, ...]
    train: Part
    test: Part
    val: Part | None = None
    unreadable: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """Train, test and, where it is there, val."""
        return (self.train, self.test) if self.val is None else (self.train, self.test, self.val)


@dataclass(frozen=True)
class ArrayImages:
    """Images that lie in memory.

    Args:
        pixels: (N, C, H, W) uint8, or float32 that is normalised already; C is 1 or 3.
        origin: names the source in messages.
    """

    pixels: Tensor
    origin: str

    @property
    def normalised(self) -> bool:
        """Whether pixels are float32."""
        return self.pixels.dtype != torch.uint8

    @property
    def size(self) -> Size | None:
        """(H, W)."""
        return int(self.pixels.shape[2]), int(self.pixels.shape[3])

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, position: int) -> Tensor:
        """Return (3, H, W)."""
        return to_three_channels(self.pixels[position])

    def name(self, position: int) -> str:
        """Say which image this is."""
        return f"{self.origin}, image {position}"

    def identity(self, position: int) -> bytes:
        """Return a digest of the pixels, which cost nothing to read."""
        return hashlib.sha256(self.pixels[position].contiguous().numpy().tobytes()).digest()

    def take(self, positions: Sequence[int]) -> "ArrayImages":
        """Return the images at these positions."""
        return ArrayImages(self.pixels[torch.as_tensor(positions, dtype=torch.int64)], self.origin)


@dataclass(frozen=True)
class FileImages:
    """Images in files that were scanned: each with its path under ``root``, its (H, W) and its length in bytes."""

    root: Path
    paths: tuple[str, ...]
    sizes: tuple[Size, ...]
    lengths: tuple[int, ...]

    normalised = False

    @property
    def size(self) -> Size | None:
        """(H, W) where all files have it."""
        return self.sizes[0] if len(set(self.sizes)) == 1 else None

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, position: int) -> Tensor:
        """Decode a file; one whose length is no longer the scanned one is refused."""
        path = self.root / self.paths[position]
        pixels = read_file(path)
        if path.stat().st_size != self.lengths[position]:
            raise UnreadableImage("changed since it was scanned")
        return pixels

    def name(self, position: int) -> str:
        """Return the path."""
        return str(self.root / self.paths[position])

    def identity(self, position: int) -> bytes:
        """Return the path under the root, with / on every system, and the length."""
        return f"{self.paths[position]}\0{self.lengths[position]}".encode("utf-8", "surrogateescape")

    def take(self, positions: Sequence[int]) -> "FileImages":
        """Return the files at these positions."""
        return FileImages(
            self.root,
            tuple(self.paths[each] for each in positions),
            tuple(self.sizes[each] for each in positions),
            tuple(self.lengths[each] for each in positions),
        )


@dataclass(frozen=True)
class ObjectImages:
    """Images that some Python object returns when asked for an index.

    Args:
        get: index -> Pillow image, uint8 array or tensor, or float tensor that is normalised already.
        indices: which, in order. normalised: as for all of them. size: (H, W) where all have it.
        origin: names the source in messages.
    """

    get: Callable[[int], Any]
    indices: tuple[int, ...]
    normalised: bool
    size: Size | None
    origin: str

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, position: int) -> Tensor:
        """Return (3, H, W); an image of another kind or size than the first ones is refused."""
        try:
            image = self.get(self.indices[position])
        except OSError as cause:
            raise UnreadableImage(reason_of(cause)) from cause
        pixels = to_pixels(image)
        if pixels.is_floating_point() != self.normalised:
            raise UnreadableImage(f"{pixels.dtype}, unlike the first image")
        height, width = pixels.shape[-2:]
        if self.size is not None and (height, width) != self.size:
            raise UnreadableImage(f"{height} x {width} pixels, unlike those looked at first")
        return pixels

    def name(self, position: int) -> str:
        """Say which image this is."""
        return f"{self.origin}, image {self.indices[position]}"

    def identity(self, position: int) -> bytes:
        """Return the index: nothing more is known without decoding."""
        return f"{self.origin}\0{self.indices[position]}".encode()

    def take(self, positions: Sequence[int]) -> "ObjectImages":
        """Return the images at these positions."""
        chosen = tuple(self.indices[each] for each in positions)
        return ObjectImages(self.get, chosen, self.normalised, self.size, self.origin)


def to_pixels(image: object) -> Tensor:
    """Turn what a Python dataset returned into (3, H, W): uint8, or float32 for tensors that are normalised already.

    Arrays are (H, W) or (H, W, C), tensors (C, H, W).

    Raises:
        UnreadableImage: something else.
    """
    if isinstance(image, Image.Image):
        return from_pil(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8:
            raise UnreadableImage(f"an array of {image.dtype}; arrays must be uint8")
        tensor = torch.from_numpy(np.ascontiguousarray(image))
        return to_three_channels(tensor.permute(2, 0, 1) if tensor.ndim == 3 else tensor)
    if isinstance(image, Tensor) and (image.dtype == torch.uint8 or image.is_floating_point()):
        kind = torch.uint8 if image.dtype == torch.uint8 else torch.float32
        return to_three_channels(image.detach().cpu().to(kind))
    what = f"a tensor of {image.dtype}" if isinstance(image, Tensor) else type(image).__name__
    raise UnreadableImage(f"{what}; images must be Pillow images, uint8, or floating-point tensors")


def read_or_refuse(images: Images, position: int) -> Tensor:
    """Read one image (3, H, W).

    Raises:
        InputError: it cannot be read; names it.
    """
    try:
        return images.read(position)
    except UnreadableImage as cause:
        raise unreadable_error(images.name(position), str(cause)) from cause


def unreadable_error(name: str, reason: str) -> InputError:
    """Make the error for an image that was fine, or not looked at, when the data were scanned."""
    return InputError(
        f"cannot read {name} ({reason})", hint="mend or remove it, then run again", code="data.bad_images"
    )


def materialise(images: Images, size: Size, threads: int = 1) -> tuple[Tensor, dict[int, str]]:
    """Decode everything: resized until ``size`` is covered, centre cut out.

    Only files are decoded by several threads: a Python object need not bear it.

    Returns:
        (N, 3, *size) uint8, or float32 where normalised; and for each position that cannot be read the reason: its
        pixels are zero and must not be used.
    """
    if isinstance(images, ArrayImages) and images.size == size:
        return images.pixels.expand(-1, 3, -1, -1).contiguous(), {}
    kind = torch.float32 if images.normalised else torch.uint8
    pixels = torch.zeros((len(images), 3, *size), dtype=kind)

    def decode(position: int) -> str | None:
        try:
            pixels[position] = fit(images.read(position), size)
        except UnreadableImage as cause:
            return str(cause)
        return None

    at_once = max(1, threads) if isinstance(images, FileImages) else 1
    with quiet_decoder(), ThreadPoolExecutor(at_once) as pool:
        reasons = list(pool.map(decode, range(len(images))))
    return pixels, {position: reason for position, reason in enumerate(reasons) if reason is not None}
