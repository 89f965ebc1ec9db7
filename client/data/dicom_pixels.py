"""The pixels of one DICOM radiograph, as a viewer would show them.

The order is the standard's grey-scale pipeline (PS3.4 N.2): stored values -> modality LUT or
rescale -> VOI LUT or window -> presentation (MONOCHROME1 is inverted) -> 8 bits. Policy:

    no VOI LUT and no usable window   the image's own minimum to maximum
    several windows                   the first, as the standard's default
    padding (0028,0120)               black, and outside the range
    RGB, YBR                          luminance; PALETTE COLOR is refused
    more than one frame, no pixels    refused
    deflated transfer syntax          refused: its size is not known before inflating
    compressed syntaxes               RLE by pydicom; JPEG baseline and JPEG 2000 by Pillow; JPEG
                                      lossless and JPEG-LS need the extra ``thoracle[dicom]``
"""

from __future__ import annotations

import io
import struct
import warnings
from importlib.util import find_spec
from typing import BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from client.data.images import MAX_PIXELS, Grey, stretch
from ledger.errors import DataError

DEFLATED = b"1.2.840.10008.1.2.1.99"
COLOURS = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
GREYS = frozenset({"MONOCHROME1", "MONOCHROME2"})
_LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as for image files

# Hospitals' headers break the standard's value rules all the time; pixels do not depend on them.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
warnings.filterwarnings("ignore", category=UserWarning, module="pydicom")

Values = NDArray[np.generic]


def decode_dicom(data: bytes, name: str) -> Grey:
    """Return (H, W) uint8 of one DICOM file, bright where dense.

    Args:
        data: the whole file.
        name: what an error calls it.

    Raises:
        DataError: no single-frame image, over the bound, damaged, or of a transfer syntax that
            no installed decoder reads (the sentence says what to install).
    """
    dataset = parse(io.BytesIO(data), name)
    _bounded(dataset, name)
    kind = str(dataset.get("PhotometricInterpretation", ""))
    if kind not in GREYS | COLOURS:
        raise DataError(f"{name} has the photometric interpretation {kind or 'none'}")
    try:
        stored = np.asarray(pixel_array(dataset))
        if kind in COLOURS:
            return stretch(stored[..., :3] @ _LUMINANCE)
        return _present(stored, dataset, inverted=kind == "MONOCHROME1")
    except RuntimeError:
        if find_spec("gdcm") is not None:
            raise DataError(f"{name} has damaged pixel data") from None
        syntax = UID(dataset.file_meta.TransferSyntaxUID).name
        raise DataError(
            f"{name} ({syntax}) is damaged or needs a decoder: pip install 'thoracle[dicom]'"
        ) from None
    except (ValueError, AttributeError, TypeError, IndexError, KeyError, OSError, struct.error):
        raise DataError(f"{name} has damaged pixel data") from None
    except (NotImplementedError, MemoryError, OverflowError, ZeroDivisionError):
        raise DataError(f"{name} has pixel data that cannot be read") from None


def parse(stream: BinaryIO, name: str, *, header_only: bool = False) -> FileDataset:
    """Parse a DICOM file's data elements.

    Args:
        stream: the file, read from its start.
        name: what an error calls it.
        header_only: stop before the pixel data.

    Raises:
        DataError: not DICOM, damaged, or deflated.
    """
    if DEFLATED in stream.read(4096):
        raise DataError(f"{name} is deflated DICOM, which is refused")
    stream.seek(0)
    try:
        dataset = pydicom.dcmread(stream, stop_before_pixels=header_only)
    # pydicom raises whatever its element parsers happen upon in damaged bytes
    except Exception:  # noqa: BLE001
        raise DataError(f"{name} is not a readable DICOM file") from None
    return dataset


def _bounded(dataset: FileDataset, name: str) -> None:
    try:
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        frames = int(dataset.get("NumberOfFrames", 1) or 1)
    except (AttributeError, TypeError, ValueError):
        raise DataError(f"{name} holds no image") from None
    if "PixelData" not in dataset:
        raise DataError(f"{name} holds no image")
    if frames != 1:
        raise DataError(f"{name} holds {frames} frames, not one")
    if not 0 < rows * columns <= MAX_PIXELS:
        raise DataError(f"{name} declares {columns:,} x {rows:,} pixels, bound {MAX_PIXELS:,}")


def _present(stored: Values, dataset: FileDataset, *, inverted: bool) -> Grey:
    padding = _padding(stored, dataset)
    values = np.asarray(apply_modality_lut(stored, dataset))
    shown = _windowed(values, dataset)
    if padding is not None and not padding.all():
        inside = shown[~padding]
        shown = np.clip(shown, inside.min(), inside.max())
    grey = stretch(shown)
    if inverted:
        grey = 255 - grey
    if padding is not None:
        grey[padding] = 0
    return grey


def _windowed(values: Values, dataset: FileDataset) -> Values:
    """Apply the VOI LUT or window; one that breaks the standard's rules counts as none."""
    if not ("WindowWidth" in dataset or "VOILUTSequence" in dataset):
        return values
    try:
        return np.asarray(apply_voi_lut(values, dataset))
    except (ValueError, TypeError, AttributeError, IndexError, KeyError):
        return values


def _padding(stored: Values, dataset: FileDataset) -> NDArray[np.bool_] | None:
    """Return where the stored values are padding, or None."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    try:
        first = int(value)
        last = int(dataset.get("PixelPaddingRangeLimit", first))
    except (TypeError, ValueError):
        return None
    low, high = min(first, last), max(first, last)
    wide = stored.astype(np.int64)
    return np.asarray((wide >= low) & (wide <= high))
