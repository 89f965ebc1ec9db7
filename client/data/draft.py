"""A folder that appears whole or not at all: filled beside its place, then moved there."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.errors import OutputError


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give an empty folder that becomes ``out`` when the block ends without an error.

    It is ``.NAME.draft`` beside ``out``, and no other process works in it: the folder itself is
    locked, and the lock ends with its process. So what a killed process left is cleared away, and
    a second one is told before it works, not after.

    Args:
        out: folder to make; it may exist if it is empty.

    Raises:
        OutputError: ``out`` is not empty, is being made by another process, or cannot be written.
    """
    try:
        with _locked(out) as draft:
            yield draft
            draft.chmod(0o755)
            draft.replace(out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror})") from None


@contextmanager
def _locked(out: Path) -> Iterator[Path]:
    _refuse_full(out)
    home = out.absolute()
    draft = home.with_name(f".{home.name}.draft")
    home.parent.mkdir(parents=True, exist_ok=True)
    draft.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"another process is making {out}") from None
        if not draft.exists() or not os.path.samestat(os.fstat(descriptor), draft.stat()):
            raise OutputError(f"another process has just made {out}")
        try:
            _refuse_full(out)  # another process may have been done since the first look
            for left in draft.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    finally:
        os.close(descriptor)


def _refuse_full(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is not empty; give a new folder")
