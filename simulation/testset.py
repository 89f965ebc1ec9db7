"""The central test set of a run, in one file of plain arrays."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.data.records import Cohort
from ledger.errors import DataError
from ledger.files import atomic_write
from server.evaluate import TestSet, groups_of


def write_test_set(path: Path, cohort: Cohort, pixels: NDArray[np.uint8]) -> None:
    """Write pixels, labels, patient numbers (not identifiers), views, sexes, ages and sources."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        pixels=pixels,
        labels=cohort.label_matrix(),
        patients=cohort.patient_codes(),
        views=np.array([record.view or "" for record in cohort.records]),
        findings=np.array(cohort.vocabulary),
        sexes=np.array([record.sex or "" for record in cohort.records]),
        ages=np.array([-1 if record.age is None else record.age for record in cohort.records]),
        hospitals=np.array([record.source for record in cohort.records]),
    )
    atomic_write(path, buffer.getvalue(), mode=0o600)


def scored_on(cohort: Cohort, pixels: NDArray[np.uint8]) -> TestSet:
    """Return a cohort's films, labels and groups as what a model is scored on."""
    records = cohort.records
    return TestSet(
        pixels=pixels,
        labels=cohort.label_matrix(),
        findings=cohort.vocabulary,
        patients=tuple(record.patient for record in records),
        views=tuple(record.view for record in records),
        groups=groups_of(
            [record.sex for record in records],
            [record.age for record in records],
            [record.source or None for record in records],
        ),
    )


def read_test_set(path: Path) -> TestSet:
    """Read it back, without pickle.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            return TestSet(
                pixels=found["pixels"],
                labels=found["labels"],
                findings=tuple(str(name) for name in found["findings"]),
                patients=tuple(str(code) for code in found["patients"]),
                views=tuple(str(view) or None for view in found["views"]),
                groups=_groups(found),
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"the test set {path.name} cannot be read: {error}") from None


def _groups(found: Mapping[str, NDArray[np.generic]]) -> dict[str, tuple[str | None, ...]]:
    """Return the groups of a file; one that was written before they were kept has none."""
    if not {"sexes", "ages", "hospitals"} <= set(found):
        return {}
    ages = (int(age) for age in found["ages"].tolist())
    return groups_of(
        [str(sex) or None for sex in found["sexes"]],
        [age if age >= 0 else None for age in ages],
        [str(hospital) or None for hospital in found["hospitals"]],
    )
