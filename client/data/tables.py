"""Read label tables: CSV in UTF-8, bounded, every row accounted for by its line number."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from client.data.check import Kind, Problem
from client.data.records import Sex
from ledger.errors import DataError

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
    try:
        if table.stat().st_size > MAX_TABLE_BYTES:
            raise DataError(f"{table.name} is over {MAX_TABLE_BYTES:,} bytes")
        handle = table.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise DataError(f"{table.name} cannot be read ({error.strerror})") from None
    with handle:
        reader = csv.reader(handle)
        try:
            header = [name.strip() for name in next(reader, [])]
            columns = _columns(header, needed, optional, table.name)
            for cells in reader:
                if not cells:
                    continue
                if len(cells) <= max(columns.values()):
                    yield Problem(
                        kind=Kind.BAD_ROW,
                        name=f"row {reader.line_num}",
                        detail=f"only {len(cells)} columns",
                    )
                    continue
                values = {name: cells[index].strip() for name, index in columns.items()}
                yield Row(reader.line_num, values)
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{table.name} is not a CSV table in UTF-8 ({error})") from None


def _columns(
    header: list[str], needed: Sequence[str], optional: Sequence[str], table: str
) -> dict[str, int]:
    lacking = [name for name in needed if name not in header]
    if lacking:
        raise DataError(f"{table} lacks the column {', '.join(lacking)}")
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
