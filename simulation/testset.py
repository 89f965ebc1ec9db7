"""The central test set of a run, in one file of plain arrays."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.data.records import Cohort
from ledger.errors import DataError
from ledger.files import atomic_write
from server.evaluate import TestSet


def write_test_set(path: Path, cohort: Cohort, pixels: NDArray[np.uint8]) -> None:
    """Write pixels, labels, patient numbers (not identifiers) and views."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        pixels=pixels,
        labels=cohort.label_matrix(),
        patients=cohort.patient_codes(),
        views=np.array([record.view or "" for record in cohort.records]),
        findings=np.array(cohort.vocabulary),
    )
    atomic_write(path, buffer.getvalue(), mode=0o600)


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
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"the test set {path.name} cannot be read: {error}") from None
