"""Read label tables: CSV in UTF-8, bounded, every row accounted for by its line number."""

from __future__ import annotations

import csv
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from client.data.check import Kind, Problem
from client.data.records import Sex
from ledger.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader

MAX_TABLE_BYTES = 512 * 2**20
MAX_AGE = 120

_AGE = re.compile(r"0*(\d{1,3})(?:\.0+)?([YMWD]?)", re.IGNORECASE)
_DIVISOR = {"": 1, "Y": 1, "M": 12, "W": 52, "D": 365}
_SEXES: dict[str, Sex | None] = {
    "m": "M",
    "male": "M",
    "f": "F",
    "female": "F",
    "": None,
    "o": None,
    "u": None,
    "other": None,
    "unknown": None,
}


class Row(NamedTuple):
    """One row: its line in the file and the wanted columns' values, stripped."""

    line: int
    values: dict[str, str]

    @property
    def where(self) -> str:
        """What a problem calls this row."""
        return f"row {self.line}"


def read_rows(
    table: Path, needed: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[Row | Problem]:
    """Yield the wanted columns of every row, or the problem of a row that lacks one.

    Args:
        table: a CSV file with a header.
        needed: columns that must be there.
        optional: columns read where they are there.

    Raises:
        DataError: the file is missing, over ``MAX_TABLE_BYTES``, not a CSV table in UTF-8, or
            lacks a needed column.
    """
    with open_table(table) as reader:
        columns = _columns(_header(reader), needed, optional, table.name)
        for cells in reader:
            if not cells:
                continue
            if len(cells) <= max(columns.values()):
                name, detail = f"row {reader.line_num}", f"only {len(cells)} columns"
                yield Problem(kind=Kind.BAD_ROW, name=name, detail=detail)
                continue
            values = {name: cells[index].strip() for name, index in columns.items()}
            yield Row(reader.line_num, values)


def read_header(table: Path) -> list[str]:
    """Return a table's column names, stripped.

    Raises:
        DataError: as ``open_table``.
    """
    with open_table(table) as reader:
        return _header(reader)


@contextmanager
def open_table(table: Path) -> Iterator[Reader]:
    """Give a strict reader of a CSV file: an open quotation mark swallows no rows in silence.

    Raises:
        DataError: missing, no regular file, over ``MAX_TABLE_BYTES``, not in UTF-8 or not CSV.
    """
    try:
        about = table.stat()
        if not stat.S_ISREG(about.st_mode):
            raise DataError(f"{table.name} is not a regular file")
        if about.st_size > MAX_TABLE_BYTES:
            raise DataError(f"{table.name} is over {MAX_TABLE_BYTES:,} bytes")
        handle = table.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise DataError(f"{table.name} cannot be read ({error.strerror})") from None
    with handle:
        reader = csv.reader(handle, strict=True)
        try:
            yield reader
        except csv.Error as error:
            raise DataError(
                f"{table.name} line {reader.line_num} is not a row of a CSV table ({error})"
            ) from None
        except UnicodeDecodeError as error:
            raise DataError(f"{table.name} is not in UTF-8 ({error}): save it as such") from None


def _header(reader: Reader) -> list[str]:
    return [name.strip() for name in next(reader, [])]


def _columns(
    header: list[str], needed: Sequence[str], optional: Sequence[str], table: str
) -> dict[str, int]:
    lacking = [name for name in needed if name not in header]
    if lacking:
        other = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), "")
        hint = f"; its columns are parted by {other!r}, not by commas" if other else ""
        raise DataError(f"{table} lacks the column {', '.join(lacking)}{hint}")
    twice = [name for name in (*needed, *optional) if header.count(name) > 1]
    if twice:
        raise DataError(f"{table} has the column {', '.join(twice)} twice")
    return {name: header.index(name) for name in (*needed, *optional) if name in header}


def parse_age(text: str) -> int | Literal[False] | None:
    """Return whole years of "57", "57.0", "057Y", "013M", "006W", "004D".

    Returns:
        None if blank, False if none of these; the value may still be implausible.
    """
    if not text:
        return None
    match = _AGE.fullmatch(text)
    if match is None:
        return False
    return int(match[1]) // _DIVISOR[match[2].upper()]


def parse_sex(text: str) -> Sex | Literal[False] | None:
    """Return "M", "F", None where the source does not say, or False for anything else."""
    return _SEXES.get(text.casefold(), False)


def read_list(path: Path) -> frozenset[str] | None:
    """Return the stripped, non-empty lines of a text file, or None where there is no file.

    Raises:
        DataError: too large, or not text in UTF-8.
    """
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise DataError(f"{path.name} is over {MAX_TABLE_BYTES:,} bytes")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path.name} is not text in UTF-8") from None
    return frozenset(line.strip() for line in lines if line.strip())
