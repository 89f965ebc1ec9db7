"""Durable files: atomic writes, bounded reads and a store named by content.

A write goes to a temporary file in the same folder, is flushed to the disk and then renamed over
the target, so that after a crash a reader sees the old file or the new one, never half of it.
Every write and removal is a named step (`ledger.steps`), at which a test can stop the program; a
disk that is full or read-only is named, whoever was writing.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from ledger.canonical import sha256
from ledger.errors import (
    EvidenceMismatch,
    EvidenceMissing,
    OutputError,
    OversizeUpdate,
    StorageFull,
    StorageReadOnly,
)
from ledger.steps import step

MAX_OBJECT = 1 << 32
"""Largest stored object in bytes."""
TEMPORARY: Final = ".tmp"
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a system says where there is no room: the disk, a quota, a limit on one file."""
READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def storage_error(path: Path, error: OSError) -> OutputError:
    """Return the named error for a write to ``path`` that the system refused."""
    if error.errno in FULL:
        return StorageFull(
            f"no room to write {path} ({error.strerror}); free some space, then go on:"
            " what was complete is kept"
        )
    if error.errno in READ_ONLY:
        return StorageReadOnly(
            f"cannot write {path} ({error.strerror}); make the folder writable, then go on"
        )
    return OutputError(f"cannot write {path}: {error.strerror or error}")


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data`` in one durable step, with exactly the permissions ``mode``.

    Raises:
        OutputError: the file cannot be written; the old one, if any, is untouched.
    """
    with atomic_stream(path, mode=mode) as stream:
        stream.write(data)


@contextmanager
def atomic_stream(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Give a stream whose bytes replace ``path`` once the block is left: ``atomic_write`` in parts.

    Raises:
        OutputError: the file cannot be written; the old one, if any, is untouched.
    """
    temporary = ""
    try:
        with step("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # mkstemp makes the file 0600: a secret is never readable by others, not meanwhile.
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=TEMPORARY)
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
            with step("rename", path):
                Path(temporary).replace(path)
            sync_folder(path.parent)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise storage_error(path, error) from None


def remove(path: Path) -> None:
    """Remove a file, or a folder with all in it; nothing happens where there is none.

    Raises:
        OutputError: it cannot be removed.
    """
    if not path.exists() and not path.is_symlink():
        return
    try:
        with step("remove", path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from None


def sweep(folder: Path) -> int:
    """Remove what writes that a crash cut short have left in a folder; return how many files.

    Only for the one process that works on the folder: another's write may be under way.
    """
    stale = [path for path in folder.glob(f".*{TEMPORARY}") if path.is_file()]
    for path in stale:
        remove(path)
    return len(stale)


def read_bounded(path: Path, limit: int) -> bytes:
    """Return a file's bytes, refusing before reading more than ``limit`` of them.

    Raises:
        EvidenceMissing: there is no readable file.
        OversizeUpdate: it is longer than ``limit`` bytes.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            data = stream.read(limit + 1) if size <= limit else b""
    except OSError as error:
        raise EvidenceMissing(f"cannot read {path}: {error.strerror or error}") from None
    if size > limit or len(data) > limit:  # it may have grown since fstat
        raise OversizeUpdate(f"{path} is over its bound of {limit} bytes")
    return data


class ObjectStore:
    """A folder of objects, each named by the SHA-256 of its bytes.

    A write is idempotent and a read verifies, so neither a crash nor an edit can pass unseen.
    """

    def __init__(self, folder: Path, suffix: str = "", *, limit: int = MAX_OBJECT) -> None:
        self.folder = Path(folder)
        self.suffix = suffix
        self.limit = limit

    def path(self, digest: bytes) -> Path:
        """Return where the object of this digest lies, whether or not it is there."""
        return self.folder / f"{digest.hex()}{self.suffix}"

    def put(self, data: bytes) -> bytes:
        """Store ``data`` durably and return its digest (32 bytes).

        Raises:
            OutputError: it cannot be written.
            OversizeUpdate: it is over the store's limit.
        """
        if len(data) > self.limit:
            raise OversizeUpdate(f"{len(data)} bytes are over the store's bound of {self.limit}")
        digest = sha256(data)
        # Written even where the name exists: a damaged copy is healed instead of trusted.
        atomic_write(self.path(digest), data)
        return digest

    def get(self, digest: bytes) -> bytes:
        """Return the object of this digest.

        Raises:
            EvidenceMissing: it is not there.
            EvidenceMismatch: its bytes are not those of its name.
        """
        path = self.path(digest)
        try:
            data = read_bounded(path, self.limit)
        except OversizeUpdate as error:
            raise EvidenceMismatch(str(error)) from None
        found = sha256(data)
        if found != digest:
            raise EvidenceMismatch(f"{path.name} holds bytes whose digest is {found.hex()}")
        return data

    def __contains__(self, digest: bytes) -> bool:
        return self.path(digest).is_file()

    def digests(self) -> Iterator[bytes]:
        """Yield the digests that have a file here, ascending (bytes are not verified)."""
        for path in sorted(self.folder.glob("*" + self.suffix)):
            name = path.name.removesuffix(self.suffix)
            if len(name) == 64 and all(c in "0123456789abcdef" for c in name):
                yield bytes.fromhex(name)
