"""Where a command writes a picture that it was asked for."""

from __future__ import annotations

from pathlib import Path

from ledger.errors import ConfigError, OutputError


def new_picture(path: Path, option: str) -> None:
    """Refuse a path at which no new PNG can be written, before long work for it.

    Raises:
        ConfigError: it is not called PNG.
        OutputError: something is there, or no folder can be.
    """
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{option} is a file called something.png, not {path.name!r}")
    if path.exists():
        raise OutputError(f"{path} is there already; give another {option}")
    home = next(folder for folder in path.absolute().parents if folder.exists())
    if not home.is_dir():
        raise OutputError(f"{path} cannot be written: {home} is not a folder")
