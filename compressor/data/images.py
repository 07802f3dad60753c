"""One image: from a file or a Python object to a uint8 tensor of three channels, and to the size of a run."""

import math
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]
"""Height and width in pixels."""

Box = tuple[int, int, int, int]
"""Top, left, height and width of a crop, in pixels."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
MAX_PIXELS = 89_478_485
"""Images with more are refused unread: a quarter of a GiB in three channels, as Pillow's own first limit."""

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_ORIENTATION = 0x0112
# What Pillow's decoders are known to raise on damaged files; everything else is a bug and must be seen.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class UnreadableImage(Exception):
    """An image that cannot be used; the message is the reason in a few words."""


@contextmanager
def quiet_decoder() -> Iterator[None]:
    """Turn Pillow's bomb warning into an error and silence its remarks on odd but readable files.

    Not safe in threads: enter it once, around them.
    """
    with warnings.catch_warnings():
        set_decoder_filters()
        yield


def set_decoder_filters() -> None:
    """Set the filters of `quiet_decoder` for good; for processes that do nothing but decode."""
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def probe_file(path: Path) -> tuple[Size, int]:
    """Decode the header alone.

    Returns:
        (height, width) as the image is shown, i.e. after its EXIF turn, and the file's size in bytes.

    Raises:
        UnreadableImage: with the reason. Only regular files are ever opened: a pipe could wait for ever.
    """
    length = _file_length(path)
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _check_pixels(image)
            # Asked for its EXIF, a PNG without one in its header is decoded to the end, lest one stands there.
            known = image.format != "PNG" or "exif" in image.info
            turned = known and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            size = (image.width, image.height) if turned else (image.height, image.width)
    except _DAMAGE as cause:
        raise UnreadableImage(reason_of(cause)) from cause
    return size, length


def read_file(path: Path) -> Tensor:
    """Decode an image file: first frame, turned as its EXIF says, RGB.

    Returns:
        (3, H, W) uint8.

    Raises:
        UnreadableImage: with the reason.
    """
    _file_length(path)
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _check_pixels(image)
            return from_pil(ImageOps.exif_transpose(image))
    except _DAMAGE as cause:
        raise UnreadableImage(reason_of(cause)) from cause


def from_pil(image: Image.Image) -> Tensor:
    """Return a Pillow image of any mode with whole-number pixels as (3, H, W) uint8; transparency is dropped.

    Raises:
        UnreadableImage: pixels are floating point, so their range is anybody's guess.
    """
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels")
    if image.mode.startswith("I"):  # 16 bits a pixel, in Pillow's several spellings; its own conversion would clip
        wide = np.asarray(image).astype(np.int64)
        image = Image.fromarray(((wide.clip(0, 65_535) + 128) // 257).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode != "RGB":
        image = image.convert("RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def to_three_channels(image: Tensor) -> Tensor:
    """Return (C, H, W) with C = 3: grey is repeated, a fourth channel (transparency) dropped.

    Raises:
        UnreadableImage: any other number of channels or dimensions.
    """
    if image.ndim == 2:
        image = image[None]
    if image.ndim != 3 or image.shape[0] not in (1, 3, 4):
        raise UnreadableImage(f"shape {tuple(image.shape)}, not (1, H, W), (3, H, W) or (4, H, W)")
    if image.shape[0] == 1:
        return image.expand(3, -1, -1)
    return image[:3]


def fit(image: Tensor, size: Size, crop_pct: float = 1.0) -> Tensor:
    """Resize until ``size / crop_pct`` is just covered, then cut the centre out.

    Args:
        image: (3, H, W) uint8 or float32. size: wanted height and width.
        crop_pct: share of each side that is kept, in (0, 1].

    Returns:
        (3, *size), same type; the image itself where it has that size and ``crop_pct`` is 1.
    """
    height, width = image.shape[-2:]
    if (height, width) == size and crop_pct == 1:
        return image
    scale = max(size[0] / crop_pct / height, size[1] / crop_pct / width)
    large = (max(size[0], round(height * scale)), max(size[1], round(width * scale)))
    grown = crop_resize(image, (0, 0, height, width), large)
    top, left = (large[0] - size[0]) // 2, (large[1] - size[1]) // 2
    return grown[:, top : top + size[0], left : left + size[1]]


def crop_resize(image: Tensor, box: Box, size: Size) -> Tensor:
    """Cut ``box`` out of ``image`` (3, H, W) and resize it, bicubic with antialiasing; uint8 exactly as Pillow does."""
    top, left, height, width = box
    part = image[:, top : top + height, left : left + width]
    if (height, width) == size:
        return part
    if part.dtype == torch.uint8:
        pixels = Image.fromarray(part.permute(1, 2, 0).contiguous().numpy())
        return from_pil(pixels.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    return F.interpolate(part[None], size=size, mode="bicubic", antialias=True, align_corners=False)[0]


def random_box(size: Size, draws: Tensor, smallest: float) -> Box:
    """Choose the box of a random resized crop.

    Its area is a share in [``smallest``, 1] of the image, its width over height between 3/4 and 4/3, evenly spread in
    the logarithm; of the tries that ``draws`` holds, the first that fits is taken, else the largest centred box of an
    allowed shape.

    Args:
        size: of the image. draws: (tries, 4) in [0, 1): area, shape, top, left of each try.

    Source: Szegedy et al. 2015, arXiv:1409.4842, section 6; the tries as torchvision makes them.
    """
    height, width = size
    for area_draw, shape_draw, top_draw, left_draw in draws.tolist():
        area = height * width * (smallest + (1 - smallest) * area_draw)
        ratio = math.exp((2 * shape_draw - 1) * math.log(4 / 3))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top, left = int(top_draw * (height - box_height + 1)), int(left_draw * (width - box_width + 1))
            return top, left, box_height, box_width
    box_height = min(height, max(1, round(width * 4 / 3)))
    box_width = min(width, max(1, round(height * 4 / 3)))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def reason_of(cause: BaseException) -> str:
    """Say in a few words what a decoder's exception means."""
    match cause:
        case UnidentifiedImageError():
            return "not an image"
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return f"more than {MAX_PIXELS:,} pixels, too large"
        case FileNotFoundError():
            return "gone"
        case PermissionError():
            return "no permission"
        case OSError() if "truncated" in str(cause):
            return "truncated"
        case _:
            return f"damaged: {cause}" if str(cause) else f"damaged: {type(cause).__name__}"


def _file_length(path: Path) -> int:
    try:
        status = path.stat()
    except OSError as cause:
        raise UnreadableImage("broken link" if path.is_symlink() else reason_of(cause)) from cause
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableImage("a folder")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImage("not a regular file")
    if status.st_size == 0:
        raise UnreadableImage("empty file")
    return status.st_size


def _check_pixels(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImage(f"{image.width} x {image.height} pixels, too large")
