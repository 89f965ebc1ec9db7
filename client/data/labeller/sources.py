"""Reports as hospitals hold them: text files, Open-i XML, a CSV table, JSON lines.

Every form is read as a stream, one report at a time, each at most ``MAX_REPORT`` bytes. Errors
name the file and row and never quote a report.
"""

from __future__ import annotations

import codecs
import csv
import stat
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from client.data.labeller.openi import parse_openi
from ledger.canonical import parse_json
from ledger.errors import CodecError, ConfigError, DataError

MAX_REPORT = 1 << 20
"""Largest report in bytes; a real one has a few thousand."""
MAX_LINE = 4 * MAX_REPORT
"""Longest line of a table in characters: a report and the other columns."""

TEXT_COLUMNS = ("report", "report_text", "text", "sentence", "note", "report_impression")
SECTION_COLUMNS = ("indication", "history", "comparison", "findings", "impression")
ID_COLUMNS = ("id", "report_id", "study_id", "uid", "image_id", "image_index", "filename", "path")


@dataclass(frozen=True, slots=True)
class Report:
    """A report: its name, its text, and the row's other columns where it came from a table."""

    name: str
    text: str
    row: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Which columns of a table to read; None finds them by their usual names.

    Attributes:
        text: the column that holds the report.
        name: the column that names it.
        split: keep only rows whose ``split`` column is this.
    """

    text: str | None = None
    name: str | None = None
    split: str | None = None


def read_reports(path: Path, columns: Columns | None = None) -> Generator[Report]:
    """Yield every report of a folder of .txt or .xml files, or of one .txt, .xml, .csv, .jsonl.

    Raises:
        ConfigError: the table has no such column.
        DataError: nothing is there, a file or row cannot be read, or a report is too long.
    """
    columns = columns or Columns()
    if path.is_dir():
        yield from _folder(path)
    elif not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder of reports")
    elif path.suffix.lower() in (".txt", ".xml"):
        yield _file(path, path.parent)
    else:
        lined = path.suffix.lower() in (".jsonl", ".ndjson", ".json")
        with closing(_json_rows(path) if lined else csv_rows(path)) as rows:
            yield from _rows(path, rows, columns)


def csv_rows(path: Path) -> Generator[tuple[int, dict[str, str]]]:
    """Yield the line and the columns of every row of a CSV file with a header.

    Raises:
        DataError: missing, not CSV in UTF-8, without a header, or a row or line too long.
    """
    csv.field_size_limit(MAX_LINE)  # of the whole process; Python's own 131,072 is too short
    with closing(_lines(path)) as lines:
        reader = csv.reader(lines, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            if not any(header) or len(set(header)) != len(header):
                raise DataError(f"{path} has no header, or names a column twice")
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{path} line {reader.line_num} has {len(cells)} columns, "
                        f"the header {len(header)}"
                    )
                yield reader.line_num, dict(zip(header, cells, strict=True))
        except csv.Error:
            raise DataError(f"{path} line {reader.line_num} is not CSV, or too long") from None


def _folder(folder: Path) -> Iterator[Report]:
    wanted = (p for p in folder.rglob("*") if p.suffix.lower() in (".txt", ".xml"))
    files = sorted(p for p in wanted if not p.is_dir())
    if not files:
        raise DataError(f"{folder} holds no .txt or .xml reports")
    for path in files:
        yield _file(path, folder)


def _file(path: Path, folder: Path) -> Report:
    name = path.relative_to(folder).with_suffix("").as_posix()
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path} is not a regular file")
        with path.open("rb") as stream:
            data = stream.read(MAX_REPORT + 1)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_REPORT:
        raise DataError(f"{path} is longer than {MAX_REPORT:,} bytes, which no report is")
    if path.suffix.lower() == ".xml":
        identifier, text = parse_openi(data, str(path))
        return Report(identifier or name, text, {})
    return Report(name, _decoded(data, path), {})


def _decoded(data: bytes, path: Path) -> str:
    """Return a text file's text: UTF-16 if it says so, else UTF-8, else Windows-1252."""
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:  # exports of old Windows systems; every byte has a meaning there
        text = data.decode("cp1252", errors="replace")
    if "\0" in text:
        raise DataError(f"{path} is not a text file")
    return text


def _rows(
    path: Path, rows: Iterator[tuple[int, dict[str, str]]], columns: Columns
) -> Iterator[Report]:
    number = 0
    for number, (line, row) in enumerate(rows, 1):
        if columns.split is not None and _column(path, row, "split") != columns.split:
            continue
        text = _text(path, row, columns.text)
        if len(text) > MAX_REPORT:
            raise DataError(f"{path} line {line}: a report longer than {MAX_REPORT:,} characters")
        yield Report(row_name(path, row, columns.name, number), text, row)
    if not number:
        raise DataError(f"{path} holds no reports")


def _text(path: Path, row: Mapping[str, str], wanted: str | None) -> str:
    if wanted is not None:
        return _column(path, row, wanted)
    usual = {_plain(name): name for name in row}
    for name in TEXT_COLUMNS:
        if name in usual:
            return row[usual[name]]
    sections = [name for name in SECTION_COLUMNS if name in usual]
    if "findings" in sections or "impression" in sections:
        return "\n\n".join(f"{name.upper()}: {row[usual[name]]}" for name in sections)
    raise ConfigError(f"{path} has no column that is known to hold reports: name it by --column")


def row_name(path: Path, row: Mapping[str, str], wanted: str | None, number: int) -> str:
    """Return what a row is called: by the wanted or the usual column, else by its number."""
    if wanted is not None:
        return _column(path, row, wanted).strip()
    usual = {_plain(name): name for name in row}
    found = next((usual[name] for name in ID_COLUMNS if name in usual), None)
    return row[found].strip() if found else str(number)


def _column(path: Path, row: Mapping[str, str], name: str) -> str:
    if name not in row:
        raise ConfigError(f"{path} has no column {name!r}")
    return row[name]


def _plain(name: str) -> str:
    return "_".join(name.lower().split())


def _lines(path: Path) -> Generator[str]:
    """Yield a file's lines, none longer than ``MAX_LINE``."""
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            while line := stream.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise DataError(f"{path} line {number} is longer than {MAX_LINE:,} characters")
                yield line
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 after line {number}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None


def _json_rows(path: Path) -> Generator[tuple[int, dict[str, str]]]:
    with closing(_lines(path)) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                value = parse_json(line.encode(), 4 * (MAX_LINE + 1))
            except CodecError:
                raise DataError(f"{path} line {number} is not JSON") from None
            if not isinstance(value, dict):
                raise DataError(f"{path} line {number} is not a JSON object")
            plain = {k: "" if v is None else v for k, v in value.items()}
            yield number, {k: str(v) for k, v in plain.items() if not isinstance(v, dict | list)}
