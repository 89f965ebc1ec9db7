"""The bounding boxes of NIH ChestX-ray14 (``BBox_List_2017.csv``), drawn by radiologists.

The release's header names only "Bbox [x,y,w,h]" over four columns; cells are pixels of the
1024 px image. The file says Infiltrate for Infiltration.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client.data.records import FINDINGS
from client.data.tables import open_table
from client.data.vocabulary import canonical
from ledger.errors import DataError

BOXES = "BBox_List_2017.csv"
SIDE = 1024


@dataclass(frozen=True, kw_only=True)
class Box:
    """One finding's place: left, top, width, height as shares of the image's side, 0 to 1."""

    finding: str
    left: float
    top: float
    width: float
    height: float


def load_boxes(root: Path) -> dict[str, tuple[Box, ...]]:
    """Return image name -> its boxes; empty where the tree has no box file.

    Raises:
        DataError: the file is too large, no CSV, or a row is not an image, a finding and a box
            within the image (named by its line).
    """
    path = root / BOXES
    if not path.is_file():
        return {}
    boxes: dict[str, list[Box]] = {}
    with open_table(path) as reader:
        next(reader, [])
        for cells in reader:
            if any(cells):
                name, box = _box(cells, reader.line_num)
                boxes.setdefault(name, []).append(box)
    return {name: tuple(found) for name, found in boxes.items()}


def _box(cells: list[str], line: int) -> tuple[str, Box]:
    try:
        name, finding = cells[0].strip(), canonical(cells[1])
        left, top, width, height = (float(cell) / SIDE for cell in cells[2:6])
    except (ValueError, IndexError):
        raise DataError(f"{BOXES} row {line} is not an image, a finding and four numbers") from None
    inside = left >= 0 and top >= 0 and width > 0 and height > 0
    if not (name and inside and left + width <= 1.001 and top + height <= 1.001):
        raise DataError(f"{BOXES} row {line} has a box that is not within the image")
    if finding not in FINDINGS:
        raise DataError(f"{BOXES} row {line} has the unknown finding {cells[1].strip()!r}")
    return name, Box(finding=finding, left=left, top=top, width=width, height=height)
