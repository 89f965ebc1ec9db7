"""Small private files: passwords and whatever only their owner may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ledger.errors import ConfigError, EvidenceMissing, InsecureKeyFile
from ledger.files import read_bounded

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


def check_private(path: Path) -> None:
    """Check that only its owner can read or write a file.

    Raises:
        EvidenceMissing: it is not there.
        InsecureKeyFile: group or others have any permission on it, or it is not a plain file.
    """
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise EvidenceMissing(f"cannot read {path}: {error.strerror or error}") from None
    if not stat.S_ISREG(mode):
        raise InsecureKeyFile(f"{path} is not a plain file")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InsecureKeyFile(f"{path} is open to other users; run: chmod 600 {path}")


def read_private(path: Path) -> bytes:
    """Return the bytes of a small private file, permissions checked first.

    Raises:
        EvidenceMissing, InsecureKeyFile: as ``check_private``.
        OversizeUpdate: it is over 64 KiB.
    """
    check_private(path)
    return read_bounded(path, MAX_PRIVATE)
