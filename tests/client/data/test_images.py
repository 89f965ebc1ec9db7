"""Decoding: every format, depth and kind of damage has a stated outcome."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from client.data import images
from client.data.images import decode_grey, read_bytes, stretch
from ledger.errors import DataError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


def test_grey_is_read_exactly() -> None:
    assert np.array_equal(decode_grey(encode(Image.fromarray(RAMP)), "x"), RAMP)


def test_rgba_rgb_la_palette_agree_with_grey() -> None:
    grey = Image.fromarray(RAMP)
    for mode in ("RGB", "RGBA", "LA", "P"):
        assert np.array_equal(decode_grey(encode(grey.convert(mode)), mode), RAMP), mode


def test_transparent_pixels_are_black() -> None:
    rgba = np.full((4, 4, 4), 255, dtype=np.uint8)
    rgba[0, :, 3] = 0
    pixels = decode_grey(encode(Image.fromarray(rgba)), "x")
    assert pixels[0].max() == 0
    assert pixels[1:].min() == 255


def test_16_bit_is_stretched_from_its_own_range() -> None:
    deep = (np.arange(256, dtype=np.uint16) * 8 + 1000).reshape(16, 16)
    pixels = decode_grey(encode(Image.fromarray(deep)), "x")
    assert (int(pixels.min()), int(pixels.max())) == (0, 255)
    assert np.all(np.diff(pixels.reshape(-1).astype(int)) >= 0)


def test_jpeg_is_read() -> None:
    pixels = decode_grey(encode(Image.fromarray(RAMP), "JPEG"), "x")
    assert np.abs(pixels.astype(int) - RAMP).max() < 20


def bomb(width: int, height: int) -> bytes:
    """Return a PNG that declares a huge size in a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [9_000, 10_000, 60_000])
def test_bombs_are_refused_by_their_declared_size(side: int) -> None:
    with pytest.raises(DataError, match="declares"):
        decode_grey(bomb(side, side), "bomb.png")


@pytest.mark.parametrize(
    "data",
    [
        b"not an image",
        b"\x89PNG\r\n\x1a\n",
        encode(Image.fromarray(RAMP))[:-30],
        encode(Image.fromarray(RAMP), "GIF"),
        b"%PDF-1.4",
        bomb(0, 8),
    ],
    ids=["text", "signature", "truncated", "gif", "pdf", "no_pixels"],
)
def test_what_is_no_image_is_named(data: bytes) -> None:
    with pytest.raises(DataError, match=r"^x\.png "):
        decode_grey(data, "x.png")


@given(st.binary(max_size=200), st.integers(0, 120))
def test_damage_never_escapes_as_another_error(noise: bytes, at: int) -> None:
    good = bytearray(encode(Image.fromarray(RAMP)))
    good[at : at + len(noise)] = noise
    try:
        pixels = decode_grey(bytes(good), "x")
    except DataError:
        return
    assert pixels.dtype == np.uint8


def test_file_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"12345")
    assert read_bytes(path) == b"12345"
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 4)
    with pytest.raises(DataError, match="over the bound"):
        read_bytes(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_bytes(tmp_path / "nowhere.png")


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zeros.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zeros.png"):
        with pytest.raises(DataError, match="not a regular file"):
            read_bytes(tmp_path / name)


def test_stretch_of_a_constant_is_black() -> None:
    assert stretch(np.full((2, 2), 77, dtype=np.uint16)).max() == 0
