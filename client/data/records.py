"""One record type for every source of radiographs, and the cohort that holds them in order.

A label is one of four small integers, so that a table of labels is an ``int8`` matrix:

    1 PRESENT      the finding is stated
    0 ABSENT       the finding is ruled out, or the source's silence means so
   -1 UNKNOWN      the source says nothing that can be used; masked in loss and metrics
   -2 UNCERTAIN    the source says it cannot tell (CheXpert's -1); resolved by a stated policy
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ledger.errors import DataError

FINDINGS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""The 14 findings of NIH ChestX-ray14 (Wang et al., CVPR 2017), in the release's order."""

PRESENT, ABSENT, UNKNOWN, UNCERTAIN = 1, 0, -1, -2

View = Literal["PA", "AP", "LATERAL"]
Sex = Literal["M", "F"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One radiograph and what its source says about it.

    Attributes:
        image: the image file.
        image_id: the image's name within its source, unique in a cohort.
        patient: the patient's identifier within its source (a keyed hash once de-identified).
        labels: one of 1, 0, -1, -2 for each finding of the cohort's vocabulary.
        view: projection, or None where the source does not say.
        age: years, 0 to 120, or None.
        sex: "M", "F" or None.
        follow_up: ordinal of the examination for this patient, from 0.
        source: where the record came from ("nih", "chexpert", "dicom", "table").
    """

    image: Path
    image_id: str
    patient: str
    labels: tuple[int, ...]
    view: View | None = None
    age: int | None = None
    sex: Sex | None = None
    follow_up: int = 0
    source: str = ""


@dataclass(frozen=True)
class Cohort:
    """An ordered set of records with one vocabulary.

    Attributes:
        records: the radiographs; index ``i`` here is index ``i`` of every array made from it.
        vocabulary: the findings, in the order of every record's ``labels``.
        source: the name of the source.

    Raises:
        DataError: a record has another number of labels, or two records share an image_id.
    """

    records: tuple[Record, ...]
    vocabulary: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        width = len(self.vocabulary)
        seen: set[str] = set()
        for record in self.records:
            if len(record.labels) != width:
                raise DataError(
                    f"image {record.image_id} has {len(record.labels)} labels, "
                    f"the vocabulary has {width}"
                )
            if record.image_id in seen:
                raise DataError(f"image {record.image_id} is in the cohort twice")
            seen.add(record.image_id)

    def __len__(self) -> int:
        return len(self.records)

    def digest(self) -> bytes:
        """Return the 32-byte SHA-256 over vocabulary and records, in order.

        Paths are left out (the same data in another folder is the same data), and so are the
        pixels: the pixel cache's own data digest covers the image files' bytes.
        """
        state = hashlib.sha256(b"thoracle/cohort/v1\0")
        _absorb(state, self.vocabulary)
        for r in self.records:
            fields = (r.image_id, r.patient, r.view, r.age, r.sex, r.follow_up, r.source)
            _absorb(state, ["" if field is None else str(field) for field in fields])
            state.update(np.asarray(r.labels, dtype=np.int8).tobytes())
        return state.digest()

    def patients(self) -> tuple[str, ...]:
        """Return the distinct patients in order of first appearance."""
        return tuple(dict.fromkeys(record.patient for record in self.records))

    def patient_codes(self) -> NDArray[np.int64]:
        """Return (N,) the index into ``patients()`` of each record's patient."""
        codes = {patient: code for code, patient in enumerate(self.patients())}
        return np.array([codes[record.patient] for record in self.records], dtype=np.int64)

    def label_matrix(self) -> NDArray[np.int8]:
        """Return (N, L) labels in {1, 0, -1, -2}."""
        flat = [record.labels for record in self.records]
        return np.array(flat, dtype=np.int8).reshape(len(self.records), len(self.vocabulary))

    def select(self, indices: Sequence[int] | NDArray[np.integer]) -> Cohort:
        """Return the cohort of these record indices, in the order given."""
        return replace(self, records=tuple(self.records[int(index)] for index in indices))


def _absorb(state: hashlib._Hash, fields: Iterable[str]) -> None:
    """Feed length-prefixed UTF-8 fields, so that no two field lists share their bytes."""
    for field in fields:
        data = field.encode()
        state.update(len(data).to_bytes(4, "big") + data)
