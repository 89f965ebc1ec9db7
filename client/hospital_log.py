"""The hospital's own log: what happened here in words, read by nobody else."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

NAME: Final = "hospital.log"
_LIMIT: Final = 1 << 20


def note(home: Path, text: str) -> None:
    """Append to the hospital's own log, readable by its owner only; an old one is kept aside."""
    path = home / NAME
    with suppress(OSError):  # a full disk must not hide the error that is being noted
        if path.exists() and path.stat().st_size > _LIMIT:
            path.replace(home / f"{NAME}.1")
        descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
            stream.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")
