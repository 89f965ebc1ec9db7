"""One run in one offline file: an uncompressed ZIP that carries its own digest.

Only what an audit reads goes in (never ``keys/``, never a hospital's own folder), under the names
of the run folder. Entries are stored, not compressed, so that nothing can unfold beyond its bound;
names are matched against an allow-list, so that nothing can be written or read elsewhere. The ZIP
comment is the SHA-256, in hexadecimal, of every byte before it: one flipped bit anywhere, or a cut,
is `BundleInvalid` before anything is read.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from ledger.errors import BundleInvalid, OutputError
from ledger.files import MAX_OBJECT, read_bounded

MAX_ENTRIES = 1 << 20
_MARK = 64
_EPOCH = (1980, 1, 1, 0, 0, 0)
_ALLOWED = re.compile(
    r"run\.json|metrics\.csv"
    r"|chain/(bundle\.json|node\.json|anvil-state\.json|transactions\.jsonl)"
    r"|(models|sums)/[0-9a-f]{64}\.safetensors|configs/[0-9a-f]{64}\.json"
    r"|evidence/[0-9a-f]{64}|evidence/decisions/[0-9]{1,10}\.json"
)


class Source(Protocol):
    """Where the files of a run are read from: a folder, or an archive."""

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a file by its name in the run folder, or None where there is none.

        Raises:
            BundleInvalid: it is over ``limit`` bytes, or cannot be read.
        """

    def close(self) -> None:
        """Let go of the files."""


class FolderSource:
    """A run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str, limit: int) -> bytes | None:
        """As ``Source.read``."""
        path = self.folder / name
        if not path.is_file():
            return None
        if path.stat().st_size > limit:
            raise BundleInvalid(f"{name} is over its bound of {limit} bytes")
        return read_bounded(path, limit)

    def close(self) -> None:
        """As ``Source.close``."""


class ArchiveSource:
    """An offline bundle written by `write_archive`; its digest is checked on opening.

    Raises:
        BundleInvalid: not one, cut, altered, or it holds a name or a form that is not allowed.
    """

    def __init__(self, path: Path) -> None:
        try:
            _check_mark(path)
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise BundleInvalid(f"{path.name} is not an offline bundle: {error}") from None
        entries = self._zip.infolist()
        names = [entry.filename for entry in entries]
        if len(names) > MAX_ENTRIES or len(set(names)) != len(names):
            raise BundleInvalid(f"{path.name} holds too many entries, or one twice")
        for entry in entries:
            if not _ALLOWED.fullmatch(entry.filename):
                raise BundleInvalid(f"{path.name} holds {entry.filename[:80]!r}, which is no part")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise BundleInvalid(f"{path.name} holds a compressed entry")
        self._names = set(names)

    def read(self, name: str, limit: int) -> bytes | None:
        """As ``Source.read``."""
        if name not in self._names:
            return None
        if self._zip.getinfo(name).file_size > limit:
            raise BundleInvalid(f"{name} is over its bound of {limit} bytes")
        try:
            return self._zip.read(name)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise BundleInvalid(f"{name} cannot be read from the bundle: {error}") from None

    def close(self) -> None:
        """As ``Source.close``."""
        self._zip.close()


def _mark_of(path: Path, length: int) -> str:
    """Return SHA-256 of the first ``length`` bytes of a file, in hexadecimal."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        left = length
        while left and (part := stream.read(min(left, 1 << 20))):
            hasher.update(part)
            left -= len(part)
    return hasher.hexdigest()


def _check_mark(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(size - _MARK, 0))
        stated = stream.read().decode("ascii", "replace")
    if size < _MARK or _mark_of(path, size - _MARK) != stated:
        raise BundleInvalid(f"{path.name} is damaged: its bytes are not those of its own digest")


def write_archive(
    run: Path,
    out: Path,
    *,
    extra: dict[str, bytes] | None = None,
    track: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> int:
    """Write the auditable part of a run folder as one file; return how many files it holds.

    Args:
        run: the run folder.
        out: the file to write; must not exist.
        extra: files that stand in for those of the folder, by name.
        track: wraps the files, to show progress.

    Raises:
        OutputError: ``out`` exists or cannot be written.
    """
    if out.exists():
        raise OutputError(f"{out} exists already")
    replaced = extra or {}
    found = {p.relative_to(run).as_posix(): p for p in run.rglob("*") if p.is_file()}
    names = sorted(n for n in {*found, *replaced} if _ALLOWED.fullmatch(n))
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            archive.comment = b"0" * _MARK
            for name in track([Path(name) for name in names]):
                key = name.as_posix()
                data = replaced.get(key)
                entry = zipfile.ZipInfo(key, _EPOCH)
                archive.writestr(
                    entry, read_bounded(run / key, MAX_OBJECT) if data is None else data
                )
        mark = _mark_of(temporary, temporary.stat().st_size - _MARK)
        with temporary.open("r+b") as stream:
            stream.seek(-_MARK, 2)
            stream.write(mark.encode("ascii"))
        temporary.replace(out)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from None
    return len(names)
