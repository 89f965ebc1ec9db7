"""Small private files: passwords and whatever only their owner may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ledger.errors import ConfigError, EvidenceMissing, InsecureKeyFile, OversizeUpdate

MAX_PRIVATE = 1 << 16
"""Largest private file in bytes."""


def read_password(*, file: Path | None = None, env: str | None = None) -> str:
    """Return a password from a private file (its first line) or an environment variable.

    Raises:
        ConfigError: neither or both are given, or there is nothing in it.
        InsecureKeyFile: others can read the file.
    """
    if (file is None) == (env is None):
        raise ConfigError("a password comes from a file or from an environment variable: give one")
    if file is not None:
        try:
            text = read_private(file).decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigError(f"{file} is not UTF-8 text") from None
        password = text.split("\n", 1)[0].rstrip("\r")
    else:
        password = os.environ.get(env or "", "")
    if not password:
        raise ConfigError(f"there is no password in {file or env}")
    return password


def _check_status(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InsecureKeyFile(f"{path} is not a plain file")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InsecureKeyFile(f"{path} is open to other users; run: chmod 600 {path}")


def check_private(path: Path) -> None:
    """Check that only its owner can read or write a file.

    Raises:
        EvidenceMissing: it is not there.
        InsecureKeyFile: group or others have any permission on it, or it is not a plain file.
    """
    try:
        status = path.lstat()
    except OSError as error:
        raise EvidenceMissing(f"cannot read {path}: {error.strerror or error}") from None
    _check_status(path, status)


def read_private(path: Path) -> bytes:
    """Return the bytes of a small private file, permissions checked first.

    Raises:
        EvidenceMissing, InsecureKeyFile: as ``check_private``.
        OversizeUpdate: it is over 64 KiB.
    """
    check_private(path)
    try:
        # Checked again on what was opened: the path may have been swapped in between.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise EvidenceMissing(f"cannot read {path}: {error.strerror or error}") from None
    with os.fdopen(descriptor, "rb") as stream:
        _check_status(path, os.fstat(stream.fileno()))
        data = stream.read(MAX_PRIVATE + 1)
    if len(data) > MAX_PRIVATE:
        raise OversizeUpdate(f"{path} is over its bound of {MAX_PRIVATE} bytes")
    return data
