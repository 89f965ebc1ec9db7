"""One way in for every image file: what it is decides the reader, not what it is called."""

from __future__ import annotations

from client.data.images import Grey, decode_grey

_DICOM_MARK = slice(128, 132)


def is_dicom(data: bytes) -> bool:
    """Return whether the bytes are a DICOM file (PS3.10: "DICM" after a 128-byte preamble)."""
    return data[_DICOM_MARK] == b"DICM"


def decode(data: bytes, name: str) -> Grey:
    """Decode a DICOM, PNG or JPEG file to (H, W) uint8, bright where dense.

    Raises:
        DataError: damaged, not one of these, or over a bound.
    """
    if is_dicom(data):
        # pydicom takes a third of a second to import; trees of PNGs never need it.
        from client.data.dicom_pixels import decode_dicom

        return decode_dicom(data, name)
    return decode_grey(data, name)
