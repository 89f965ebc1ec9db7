"""Open any source: what lies in a folder decides the loader, or the caller names it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from client.data.check import CheckReport, Problem, Progress
from client.data.chexpert import RELEASES, check_chexpert, find_release, load_chexpert
from client.data.chexpert import TABLES as CHEXPERT_TABLES
from client.data.decode import is_dicom
from client.data.mapping import MAPPING_FILE, PREPARED
from client.data.nih import LISTS as NIH_LISTS
from client.data.nih import TABLES as NIH_TABLES
from client.data.nih import check_nih, load_nih
from client.data.records import Cohort
from client.data.table import check_table, load_table
from client.data.uncertainty import Policy, resolve
from client.data.vocabulary import join, project
from ledger.errors import ConfigError, DataError

Kind = Literal["nih", "chexpert", "dicom", "table"]
Subset = Literal["train", "test"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_LOOK = 200
"""Files looked at before a folder is said to hold no DICOM."""


def detect(root: Path) -> Kind:
    """Return the kind of source a folder holds.

    Raises:
        DataError: no folder, or none of the known kinds.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    if any((root / name).is_file() for name in NIH_TABLES):
        return "nih"
    homes = (root, *(root / release for release in RELEASES))
    if any((home / name).is_file() for home in homes for name in CHEXPERT_TABLES.values()):
        return "chexpert"
    if _holds_dicom(root):
        return "dicom"
    if (root / MAPPING_FILE).is_file() or (root / PREPARED.table).is_file():
        return "table"
    raise DataError(
        f"{root} is none of the known sources: it has no {NIH_TABLES[0]} (NIH), train.csv "
        f"(CheXpert), {MAPPING_FILE} or {PREPARED.table} (table), and no DICOM files"
    )


def load_source(
    root: Path,
    subset: Subset | None = None,
    *,
    kind: str = "auto",
    policy: Policy | str = Policy.IGNORE,
    left_out: list[Problem] | None = None,
) -> Cohort:
    """Load any source.

    Args:
        root: its folder.
        subset: "train" or "test" where the source has lists (NIH, CheXpert).
        kind: "auto", "nih", "chexpert", "dicom" or "table".
        policy: what uncertain labels become.
        left_out: see ``load_dicom``; other sources have nothing that is left out on loading.

    Raises:
        ConfigError: an unknown kind or policy, a subset of a source without lists, or a wrong
            mapping file.
        DataError: what the loader of the kind raises.
    """
    found = _kind(root, kind)
    if found == "nih":
        return load_nih(root, subset)
    if found == "chexpert":
        return load_chexpert(root, subset, policy=policy)
    if subset is not None:
        raise ConfigError(f"a {found} source has no {subset} list")
    if found == "table":
        return resolve(load_table(root), Policy(policy))
    from client.data.dicom import load_dicom

    return resolve(load_dicom(root, left_out=left_out), Policy(policy))


def has_list(root: Path, subset: Subset) -> bool:
    """Return whether a source has a train or test list of its own."""
    found = detect(root)
    if found == "nih":
        return (root / NIH_LISTS[subset]).is_file()
    return found == "chexpert" and (find_release(root) / CHEXPERT_TABLES[subset]).is_file()


def load_sources(
    roots: Sequence[Path],
    subset: Subset | None = None,
    *,
    kind: str = "auto",
    policy: Policy | str = Policy.IGNORE,
    vocabulary: Sequence[str] | None = None,
) -> Cohort:
    """Load one source as it is, or several as one cohort under the union of their vocabularies.

    Of several, each keeps its own name in ``Record.source`` (numbered where two are of a kind),
    patients and images are renamed "source:name", and a finding that a source does not label is
    unknown there.

    Args:
        roots: one folder or more.
        subset: as ``load_source``; a source without lists is taken whole.
        kind: as ``load_source``, for all of them.
        policy: as ``load_source``.
        vocabulary: bring each source under this one before they are joined (``project``): what is
            made from all that a source labels must be made while that can still be seen.

    Raises:
        ConfigError, DataError: as ``load_source``; a source labels nothing of the vocabulary.
    """
    cohorts = []
    for root in roots:
        listed = subset if subset and has_list(root, subset) else None
        cohort = load_source(root, listed, kind=kind, policy=policy)
        cohorts.append(cohort if vocabulary is None else project(cohort, vocabulary))
    if len(cohorts) == 1:
        return cohorts[0]
    names = [cohort.source for cohort in cohorts]
    numbered = [
        f"{name}-{names[:place].count(name) + 1}" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
    return join([replace(c, source=n) for c, n in zip(cohorts, numbered, strict=True)])


def check_source(root: Path, progress: Progress | None = None, kind: str = "auto") -> CheckReport:
    """Check any source; see ``load_source`` and the checks of each kind."""
    found = _kind(root, kind)
    if found == "nih":
        return check_nih(root, progress)
    if found == "chexpert":
        return check_chexpert(root, progress)
    if found == "table":
        return check_table(root, progress)
    from client.data.dicom import check_dicom

    return check_dicom(root, progress)


def _kind(root: Path, kind: str) -> Kind:
    if kind == "auto":
        return detect(root)
    for known in KINDS:
        if kind == known:
            return known
    raise ConfigError(f"unknown kind of source {kind!r}: use auto, {', '.join(KINDS)}")


def _holds_dicom(root: Path) -> bool:
    seen = 0
    for folder, _folders, names in os.walk(root):
        for name in names:
            seen += 1
            if seen > _LOOK:
                return False
            try:
                if not (Path(folder) / name).is_file():
                    continue
                with (Path(folder) / name).open("rb") as handle:
                    if is_dicom(handle.read(132)):
                        return True
            except OSError:
                continue
    return False
