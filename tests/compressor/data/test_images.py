"""One image: every kind of file comes out as people see it, or is refused with a reason."""

import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compressor.data.images import (
    UnreadableImage,
    crop_resize,
    fit,
    from_pil,
    probe_file,
    quiet_decoder,
    random_box,
    read_file,
    to_three_channels,
)


def gradient(height: int = 12, width: int = 20) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([rows * 20, columns * 12, rows * 0 + 7], axis=2).astype(np.uint8))


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.tensor(list(image.tobytes()), dtype=torch.uint8).reshape(image.height, image.width, 3).permute(2, 0, 1)


def bomb(path: Path, side: int) -> None:
    """Write a PNG whose header claims side x side pixels and which holds none."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = b""
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        chunks += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def test_a_plain_file_comes_back_pixel_for_pixel(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    assert torch.equal(read_file(tmp_path / "a.png"), as_tensor(gradient()))
    assert probe_file(tmp_path / "a.png") == ((12, 20), (tmp_path / "a.png").stat().st_size)


def test_an_exif_turn_is_applied_and_counts_for_the_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    gradient().save(tmp_path / "a.png", exif=exif)
    assert probe_file(tmp_path / "a.png")[0] == (20, 12)
    assert torch.equal(read_file(tmp_path / "a.png"), torch.rot90(as_tensor(gradient()), -1, (1, 2)))


def test_grey_of_8_and_16_bits_black_and_white_and_palettes_become_rgb() -> None:
    grey = Image.fromarray(np.array([[0, 128, 255]], dtype=np.uint8))
    assert from_pil(grey).tolist() == [[[0, 128, 255]]] * 3
    deep = Image.fromarray(np.array([[0, 257, 32_896, 65_535]], dtype=np.uint16))
    assert from_pil(deep).tolist() == [[[0, 1, 128, 255]]] * 3  # 65,535 = 255 * 257
    assert from_pil(Image.fromarray(np.array([[0, 514, 70_000]], dtype=np.int32))).tolist() == [[[0, 2, 255]]] * 3
    assert from_pil(Image.fromarray(np.array([[False, True]]))).tolist() == [[[0, 255]]] * 3
    indexed = Image.new("P", (2, 1))
    indexed.putpalette([10, 20, 30, 40, 50, 60])
    indexed.putpixel((1, 0), 1)
    assert from_pil(indexed).tolist() == [[[10, 40]], [[20, 50]], [[30, 60]]]


def test_transparency_is_dropped_and_cmyk_converted() -> None:
    assert from_pil(Image.new("RGBA", (1, 1), (1, 2, 3, 0))).flatten().tolist() == [1, 2, 3]
    assert from_pil(Image.new("CMYK", (1, 1), (0, 255, 255, 0))).flatten().tolist() == [255, 0, 0]


def test_a_palette_with_transparency_bytes_is_read_without_a_warning(tmp_path: Path) -> None:
    indexed = Image.new("P", (2, 1))
    indexed.putpalette([10, 20, 30, 40, 50, 60])
    indexed.save(tmp_path / "a.png", transparency=bytes([0, 255]))
    assert read_file(tmp_path / "a.png")[:, 0, 0].tolist() == [10, 20, 30]


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
    assert read_file(tmp_path / "a.gif")[:, 0, 0].tolist() == [255, 0, 0]


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(UnreadableImage, match="floating-point"):
        from_pil(Image.new("F", (2, 2)))


def test_damaged_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    gradient(200, 200).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "html.jpg").write_text("<html>not found</html>", encoding="utf-8")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    bomb(tmp_path / "bomb.png", 50_000)
    bomb(tmp_path / "large.png", 10_000)
    reasons = {
        "cut.jpg": "truncated",
        "html.jpg": "not an image",
        "empty.png": "empty file",
        "folder.jpg": "a folder",
        "broken.jpg": "broken link",
        "pipe.jpg": "not a regular file",
        "bomb.png": "too large",
        "large.png": "too large",
        "absent.jpg": "gone",
    }
    for name, reason in reasons.items():
        with quiet_decoder(), pytest.raises(UnreadableImage, match=reason):
            read_file(tmp_path / name)
        if name != "cut.jpg":  # its header is whole
            with quiet_decoder(), pytest.raises(UnreadableImage, match=reason):
                probe_file(tmp_path / name)


@pytest.mark.parametrize("seed", range(60))
def test_scrambled_files_are_read_or_refused_and_never_crash(tmp_path: Path, seed: int) -> None:
    kind = ("png", "jpg", "gif", "bmp", "webp", "tif")[seed % 6]
    gradient().save(tmp_path / f"a.{kind}")
    content = bytearray((tmp_path / f"a.{kind}").read_bytes())
    owned = np.random.default_rng(seed)
    for place in owned.integers(0, len(content), 6):
        content[place] = owned.integers(0, 256)
    (tmp_path / f"b.{kind}").write_bytes(content)
    with quiet_decoder():
        try:
            channels, reason = len(read_file(tmp_path / f"b.{kind}")), "none"
        except UnreadableImage as refused:
            channels, reason = 3, str(refused)
    assert channels == 3
    assert reason


def test_channels_become_three() -> None:
    grey = torch.arange(4, dtype=torch.uint8).reshape(2, 2)
    assert torch.equal(to_three_channels(grey), grey.expand(3, 2, 2))
    assert torch.equal(to_three_channels(grey[None]), grey.expand(3, 2, 2))
    assert to_three_channels(torch.zeros(4, 2, 2)).shape == (3, 2, 2)
    for shape in ((2, 4, 4), (5,), (1, 1, 1, 1)):
        with pytest.raises(UnreadableImage, match="shape"):
            to_three_channels(torch.zeros(shape))


def test_fit_resizes_as_pillow_does_and_cuts_the_centre_out() -> None:
    # 12 x 20 to cover 6 x 6 at crop_pct 0.75: the shorter side becomes 8, the longer 13 (13.3); centre 6 x 6.
    wanted = gradient().resize((13, 8), Image.Resampling.BICUBIC).crop((3, 1, 9, 7))
    assert torch.equal(fit(as_tensor(gradient()), (6, 6), 0.75), as_tensor(wanted))


def test_fit_leaves_an_image_of_the_right_size_alone() -> None:
    image = as_tensor(gradient())
    assert fit(image, (12, 20)) is image


def test_floats_are_resized_as_whole_numbers_are() -> None:
    image = as_tensor(gradient())
    exact = crop_resize(image.float(), (2, 3, 8, 10), (5, 7))
    assert float((exact.clamp(0, 255) - crop_resize(image, (2, 3, 8, 10), (5, 7)).float()).abs().max()) < 1.01


def test_random_boxes_have_the_allowed_area_and_shape_and_lie_inside() -> None:
    owned = torch.Generator().manual_seed(0)
    for _ in range(300):
        top, left, height, width = random_box((60, 90), torch.rand(10, 4, generator=owned), 0.35)
        assert 0 <= top <= 60 - height
        assert 0 <= left <= 90 - width
        assert 0.33 < height * width / 5400 <= 1.01
        assert 0.72 < width / height < 1.38


def test_a_random_box_equals_one_worked_by_hand() -> None:
    # Area 0.5 * 10,000 = 5,000 at ratio 1: side 70.7 -> 71; top int(0.5 * 30) = 15, left int(0.95 * 30) = 28.
    draws = torch.tensor([[0.375, 0.5, 0.5, 0.95]])  # 0.2 + 0.8 * 0.375 = 0.5
    assert random_box((100, 100), draws, 0.2) == (15, 28, 71, 71)
    # Ratio (4/3) at area 0.5 * 10,000: width sqrt(6,666.7) = 81.6 -> 82, height sqrt(3,750) = 61.2 -> 61.
    assert random_box((100, 100), torch.tensor([[0.375, 1.0, 0.0, 0.0]]), 0.2) == (0, 0, 61, 82)


def test_when_no_try_fits_the_largest_allowed_centre_is_taken() -> None:
    wide = random_box((10, 100), torch.full((3, 4), 0.99), 0.9)
    assert wide == (0, 43, 10, 13)  # width 10 * 4 / 3 = 13.3
    tall = random_box((100, 10), torch.full((3, 4), 0.99), 0.9)
    assert tall == (43, 0, 13, 10)
    assert math.isclose(wide[3] / wide[2], 4 / 3, rel_tol=0.05)
