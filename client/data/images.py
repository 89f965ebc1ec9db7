"""Read one greyscale radiograph, with every bound checked before a pixel is decoded.

Stated policy, the same for every source of image files (DICOM has its own reader):

    PNG and JPEG only, told by content, never by file name; anything else is unreadable
    file over ``MAX_FILE_BYTES``, or declared size over ``MAX_PIXELS``  -> refused undecoded
    zero pixels, truncated, damaged                                   -> unreadable
    16-bit grey      stretched from its own minimum and maximum to 0..255
    RGB, palette     luminance by ITU-R 601 (what Pillow's "L" is)
    RGBA, LA         laid over black, then as above (NIH has some, all fully opaque)
    all pixels equal "blank": readable, but named as a problem by ``data check``
"""

from __future__ import annotations

import io
import stat
import warnings
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ledger.errors import DataError

MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 64 * 2**20
FORMATS = ("PNG", "JPEG")
PNG_MARK = b"\x89PNG\r\n\x1a\n"
_ONE_AT_A_TIME = Lock()  # the warning filters are the process's, and opening is quick

Grey = NDArray[np.uint8]


def read_bytes(path: Path) -> bytes:
    """Return the file's bytes, refusing one over ``MAX_FILE_BYTES`` before reading it.

    Raises:
        DataError: the file is missing, no regular file, unreadable, empty or too large.
    """
    name = place(path)
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe or a device would be read for ever
            raise DataError(f"{name} is not a regular file")
        if about.st_size > MAX_FILE_BYTES:
            raise DataError(
                f"{name} has {about.st_size:,} bytes, over the bound {MAX_FILE_BYTES:,}"
            )
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{name} cannot be read ({error.strerror})") from None
    if not data:
        raise DataError(f"{name} is empty")
    return data


def place(path: Path) -> str:
    """Return what errors call an image file: its name and the two folders above it.

    CheXpert calls most of its files view1_frontal.jpg, and DICOM exports call theirs IM000001.
    """
    return "/".join(path.parts[-3:])


def decode_grey(data: bytes, name: str) -> Grey:
    """Decode PNG or JPEG bytes to (H, W) uint8 under the module's policy.

    Args:
        data: the whole file.
        name: what an error calls it.

    Raises:
        DataError: not an image of these formats, damaged, or declared over ``MAX_PIXELS``.
    """
    try:
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            # Pillow warns of a bomb at its own bound; here the declared size decides.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise DataError(f"{name} declares more than {MAX_PIXELS:,} pixels") from None
    except (OSError, ValueError, SyntaxError):
        raise DataError(f"{name} is not a readable PNG or JPEG") from None
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise DataError(
                f"{name} declares {width:,} x {height:,} pixels, over the bound {MAX_PIXELS:,}"
            )
        try:
            return _to_grey(image)
        except (OSError, ValueError, SyntaxError, EOFError):
            raise DataError(f"{name} is truncated or damaged") from None


def conversion(data: bytes) -> str:
    """Return from what an image file is converted ("16-bit grey", "RGBA"); "" if it is not.

    Read from a PNG's header; a JPEG or DICOM file is grey or goes by its reader's policy.
    """
    if data[:8] != PNG_MARK or len(data) < 26:
        return ""
    depth, colour = data[24], data[25]
    kind = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}.get(colour, "")
    if colour == 0 and depth == 8:
        return ""
    return f"{depth}-bit {kind}" if colour == 0 else kind


def read_grey(path: Path) -> Grey:
    """Read one image file as (H, W) uint8; see ``read_bytes`` and ``decode_grey``."""
    return decode_grey(read_bytes(path), place(path))


def stretch(values: NDArray[np.generic]) -> Grey:
    """Map an array linearly from its own minimum and maximum to 0..255 (constant -> 0)."""
    wide = values.astype(np.float32)
    low, high = float(wide.min()), float(wide.max())
    if high <= low:
        return np.zeros(wide.shape, dtype=np.uint8)
    grey: Grey = np.rint((wide - low) * (255.0 / (high - low))).astype(np.uint8)
    return grey


def _to_grey(image: Image.Image) -> Grey:
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit greyscale arrives as I or I;16
        return stretch(np.asarray(image))
    if image.mode != "L":
        if "A" in image.mode or "transparency" in image.info:
            rgba = image.convert("RGBA")
            black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
            image = Image.alpha_composite(black, rgba)
        image = image.convert("L")
    grey: Grey = np.array(image, dtype=np.uint8)
    return grey
