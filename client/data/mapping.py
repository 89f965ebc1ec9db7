"""The column-mapping file: how any CSV becomes records.

    table = "studies.csv"            # the CSV, beside this file (default: table.csv)
    images = "png"                   # folder of the images (default: where this file lies)
    source = "st-elsewhere"          # name of the source (default: table)

    [columns]                        # record field = column; image and patient are needed
    image = "file"
    patient = "mrn"
    age = "age"                      # 57, 057Y, 013M
    sex = "gender"                   # M, F, male, female, blank
    view = "projection"
    follow_up = "visit"

    [views]                          # how the table spells views (PA, AP, LATERAL need no entry)
    "postero-anterior" = "PA"

    [labels]                         # either one column a finding ...
    columns = { Effusion = "pleural effusion", Fracture = "rib fx" }
    present = ["1", "yes"]
    absent = ["0", "no"]
    uncertain = ["-1", "?"]
    unknown = [""]

    [labels]                         # ... or one column that lists the findings
    list = "findings"
    separator = "|"
    none = ["No Finding"]            # the cell that says there is none
    findings = ["Effusion", "Mass"]  # every finding the list could name
    silence = "absent"               # a finding not named is absent, or unknown
    skip = ["Pneumonia (old)"]       # names to leave out on purpose

Without a mapping file the table must be ``table.csv`` in the form ``data prepare`` writes:
image, patient, age, sex, view, follow_up, then one column a finding with 1, 0, -1 (unknown) or
-2 (uncertain).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.data.records import ABSENT, PRESENT, UNCERTAIN, UNKNOWN
from ledger.errors import ConfigError

MAPPING_FILE = "mapping.toml"
MAX_MAPPING_BYTES = 1 << 20
FIELDS = ("image", "patient", "age", "sex", "view", "follow_up")
NEEDED_FIELDS = ("image", "patient")

_CELLS: dict[str, tuple[str, ...]] = {
    "present": ("1", "1.0"),
    "absent": ("0", "0.0"),
    "uncertain": ("-1", "-1.0"),
    "unknown": ("",),
}
_VALUES = {"present": PRESENT, "absent": ABSENT, "uncertain": UNCERTAIN, "unknown": UNKNOWN}
_VIEWS = {"PA": "PA", "AP": "AP", "LATERAL": "LATERAL", "": ""}


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """A checked mapping file; see the module for what each part means.

    Attributes:
        table, images, source: file name, folder name and source name.
        columns: record field -> column.
        views: upper-cased spelling -> view ("" is unknown).
        label_columns: finding -> column; empty for the list style.
        cells: cell text -> label, for the columns style.
        list_column, separator, none, findings, silence, skip: the list style.
        rest: take every column that is not in ``columns`` as a finding (the prepared form).
    """

    table: str = "table.csv"
    images: str = "."
    source: str = "table"
    columns: dict[str, str] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=lambda: dict(_VIEWS))
    label_columns: dict[str, str] = field(default_factory=dict)
    cells: dict[str, int] = field(default_factory=dict)
    list_column: str = ""
    separator: str = "|"
    none: tuple[str, ...] = ("No Finding",)
    findings: tuple[str, ...] = ()
    silence: int = ABSENT
    skip: tuple[str, ...] = ()
    rest: bool = False


PREPARED = Mapping(
    columns={name: name for name in FIELDS},
    cells={"1": PRESENT, "0": ABSENT, "-1": UNKNOWN, "": UNKNOWN, "-2": UNCERTAIN},
    rest=True,
)
"""The form ``data prepare`` writes."""


def load_mapping(path: Path, needed: tuple[str, ...] = NEEDED_FIELDS) -> Mapping:
    """Read and check a mapping file.

    Args:
        path: the TOML file.
        needed: record fields it must give a column for.

    Raises:
        ConfigError: it cannot be read, is not TOML, has an unknown key, lacks a needed one or
            gives a value of another type.
    """
    try:
        if path.stat().st_size > MAX_MAPPING_BYTES:
            raise ConfigError(f"{path.name} is over {MAX_MAPPING_BYTES:,} bytes")
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not TOML ({error})") from None
    return parse_mapping(settings, path.name, needed)


def parse_mapping(
    settings: dict[str, Any], name: str, needed: tuple[str, ...] = NEEDED_FIELDS
) -> Mapping:
    """Check the settings of a mapping file; see ``load_mapping``."""
    _known(settings, ("table", "images", "source", "columns", "views", "labels"), name)
    columns = _texts(settings.get("columns", {}), f"{name} [columns]")
    _known(columns, FIELDS, f"{name} [columns]")
    lacking = [wanted for wanted in needed if wanted not in columns]
    if lacking:
        raise ConfigError(f"{name} [columns] lacks {', '.join(lacking)}")
    views = _texts(settings.get("views", {}), f"{name} [views]")
    for view in views.values():
        if view not in _VIEWS:
            raise ConfigError(f"{name} [views] knows PA, AP, LATERAL, not {view!r}")
    labels = settings.get("labels", {})
    if not isinstance(labels, dict):
        raise ConfigError(f"{name} [labels] must be a table")
    return Mapping(
        table=_text(settings.get("table", "table.csv"), f"{name} table"),
        images=_text(settings.get("images", "."), f"{name} images"),
        source=_text(settings.get("source", "table"), f"{name} source"),
        columns=columns,
        views={**_VIEWS, **{key.upper(): view for key, view in views.items()}},
        **_labels(labels, f"{name} [labels]"),
    )


def _labels(labels: dict[str, Any], where: str) -> dict[str, Any]:
    if ("columns" in labels) == ("list" in labels):
        raise ConfigError(f"{where} needs either columns or list")
    if "columns" in labels:
        _known(labels, ("columns", *_CELLS), where)
        cells: dict[str, int] = {}
        for kind, default in _CELLS.items():
            for cell in _strings(labels.get(kind, list(default)), f"{where} {kind}"):
                if cells.setdefault(cell.casefold(), _VALUES[kind]) != _VALUES[kind]:
                    raise ConfigError(f"{where} gives the cell {cell!r} two meanings")
        found = _texts(labels["columns"], f"{where} columns")
        if not found:
            raise ConfigError(f"{where} columns names no finding")
        return {"label_columns": found, "cells": cells}
    _known(labels, ("list", "separator", "none", "findings", "silence", "skip"), where)
    silence = labels.get("silence", "absent")
    if silence not in {"absent", "unknown"}:
        raise ConfigError(f"{where} silence is absent or unknown, not {silence!r}")
    findings = _strings(labels.get("findings", []), f"{where} findings")
    if not findings:
        raise ConfigError(f"{where} findings must name every finding the list could hold")
    return {
        "list_column": _text(labels["list"], f"{where} list"),
        "separator": _text(labels.get("separator", "|"), f"{where} separator"),
        "none": _strings(labels.get("none", ["No Finding"]), f"{where} none"),
        "findings": findings,
        "silence": _VALUES[silence],
        "skip": _strings(labels.get("skip", []), f"{where} skip"),
    }


def _known(settings: dict[str, Any], keys: tuple[str, ...], where: str) -> None:
    strange = sorted(set(settings) - set(keys))
    if strange:
        raise ConfigError(f"{where} has the unknown key {', '.join(strange)}")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where} must be text")
    return value


def _texts(value: object, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ConfigError(f"{where} must map names to text")
    return dict(value)


def _strings(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ConfigError(f"{where} must be a list of texts")
    return tuple(value)
