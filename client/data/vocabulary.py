"""One federation, different vocabularies: which names mean the same, and what silence means.

A finding that a source does not label is unknown there, not absent: an NIH hospital's silence on
fractures says nothing about fractures. Only names that their authors define alike are synonyms;
wider and narrower terms (a mass is a lung lesion, not every lung lesion is a mass) stay apart.

One finding is made from the others where a model tells it and a source does not label it:
``Abnormal``, whether anything is found at all.

    1 present      a finding that the source labels is present
    0 absent       all that it labels are absent; or it says "No Finding", which also answers for
                   what it leaves blank (as in CheXpert's tables: Irvin et al., AAAI 2019)
   -2 uncertain    none is present, one is uncertain
   -1 unknown      none is present, and the source is silent on one, or denies "No Finding"

Support devices are no abnormality, and neither is "No Finding" itself (nor is it counted beside a
device). What a source never labels does not count there, so sources are asked before they are
joined: ``load_sources(..., vocabulary=...)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from client.data.records import (
    ABSENT,
    FINDINGS,
    PRESENT,
    UNCERTAIN,
    UNKNOWN,
    Cohort,
    Record,
)
from ledger.errors import ConfigError, DataError

NIH = "Wang et al., CVPR 2017 (ChestX-ray14), and its BBox_List_2017.csv"
CHEXPERT = "Irvin et al., AAAI 2019 (CheXpert), table 1"
PADCHEST = "Bustos et al., Medical Image Analysis 2020 (PadChest), term tree"
VINDR = "Nguyen et al., Scientific Data 2022 (VinDr-CXR), table 2"
SPELLING = "British spelling of the same term"


@dataclass(frozen=True)
class Synonym:
    """``name`` is what ``source`` calls the finding ``canonical``."""

    canonical: str
    name: str
    source: str


SYNONYMS: tuple[Synonym, ...] = (
    Synonym("Effusion", "Pleural Effusion", CHEXPERT),
    Synonym("Infiltration", "Infiltrate", NIH),
    Synonym("Infiltration", "Infiltrates", PADCHEST),
    Synonym("Edema", "Pulmonary Edema", PADCHEST),
    Synonym("Edema", "Oedema", SPELLING),
    Synonym("Edema", "Pulmonary Oedema", SPELLING),
    Synonym("Fibrosis", "Pulmonary Fibrosis", VINDR),
    Synonym("Hernia", "Hiatal Hernia", PADCHEST),
)

CANONICAL: tuple[str, ...] = (
    *FINDINGS,
    "Enlarged_Cardiomediastinum",
    "Lung_Opacity",
    "Lung_Lesion",
    "Pleural_Other",
    "Fracture",
    "Support_Devices",
)
"""Known findings in the order a union lists them; others follow in order of appearance."""

ABNORMAL = "Abnormal"
"""Whether there is any finding; made from the others where a source does not label it."""
NO_FINDING = "No_Finding"
_NO_ABNORMALITY = frozenset({NO_FINDING, "Support_Devices"})


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name.strip()).casefold()


_MEANING = {_plain(name): name for name in (*CANONICAL, ABNORMAL, NO_FINDING)}
_MEANING.update({_plain(s.name): s.canonical for s in SYNONYMS})


def canonical(name: str) -> str:
    """Return the canonical name of a finding; an unknown one keeps its name, with underscores.

    Raises:
        ConfigError: the name is blank.
    """
    plain = _plain(name)
    if not plain:
        raise ConfigError("a finding has no name")
    return _MEANING.get(plain, re.sub(r"[\s_\-]+", "_", name.strip()))


def union(vocabularies: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the canonical names of all vocabularies: known ones first, in ``CANONICAL`` order."""
    names = dict.fromkeys(canonical(n) for vocabulary in vocabularies for n in vocabulary)
    known = [name for name in CANONICAL if name in names]
    return (*known, *(name for name in names if name not in set(CANONICAL)))


def project(cohort: Cohort, vocabulary: Sequence[str]) -> Cohort:
    """Return the cohort under an agreed vocabulary.

    A finding that the cohort does not label is UNKNOWN for all its images; one outside the
    vocabulary is left out. Two columns that mean the same are merged: present before uncertain
    before absent before unknown. ``Abnormal`` is made from all abnormalities that the cohort
    labels, also those outside the vocabulary, unless it is labelled itself.

    Raises:
        DataError: the vocabulary names a finding twice, or shares none with the cohort.
    """
    wanted = tuple(canonical(name) for name in vocabulary)
    if len(set(wanted)) != len(wanted):
        raise DataError("the agreed vocabulary names a finding twice")
    columns: dict[str, list[int]] = {}
    for i, name in enumerate(cohort.vocabulary):
        columns.setdefault(canonical(name), []).append(i)
    made = ABNORMAL in wanted and ABNORMAL not in columns
    if not columns.keys() & set(wanted) and not (made and columns.keys() - _NO_ABNORMALITY):
        raise DataError(f"the {cohort.source} cohort labels none of the agreed findings")

    def labels(record: Record) -> tuple[int, ...]:
        merged = {name: _merge(record, places) for name, places in columns.items()}
        if made:
            merged[ABNORMAL] = _abnormal(merged)
        return tuple(merged.get(name, UNKNOWN) for name in wanted)

    records = tuple(replace(r, labels=labels(r)) for r in cohort.records)
    return replace(cohort, records=records, vocabulary=wanted)


def align(cohorts: Sequence[Cohort]) -> tuple[Cohort, ...]:
    """Return every cohort under the union of their vocabularies."""
    vocabulary = union(cohort.vocabulary for cohort in cohorts)
    return tuple(project(cohort, vocabulary) for cohort in cohorts)


def join(cohorts: Sequence[Cohort]) -> Cohort:
    """Return one cohort of all records under the union vocabulary.

    Images and patients are renamed "source:name", so that two sources' patient 1 stay two.

    Raises:
        DataError: no cohort, or two of the same source.
    """
    sources = [cohort.source for cohort in cohorts]
    if not sources or len(set(sources)) != len(sources):
        raise DataError("joined cohorts need sources of different names")
    records = tuple(
        replace(
            r,
            image_id=f"{cohort.source}:{r.image_id}",
            patient=f"{cohort.source}:{r.patient}",
            source=cohort.source,
        )
        for cohort in align(cohorts)
        for r in cohort.records
    )
    return Cohort(records, union(c.vocabulary for c in cohorts), "+".join(sources))


def _merge(record: Record, places: list[int]) -> int:
    """Return what columns of one meaning say together."""
    stated = {record.labels[i] for i in places}
    return next((label for label in (PRESENT, UNCERTAIN, ABSENT) if label in stated), UNKNOWN)


def _abnormal(labels: Mapping[str, int]) -> int:
    """Return whether anything is found, from a source's own labels by canonical name."""
    found = {label for name, label in labels.items() if name not in _NO_ABNORMALITY}
    for certain in (PRESENT, UNCERTAIN):
        if certain in found:
            return certain
    nothing = labels.get(NO_FINDING)
    if nothing == PRESENT:
        return ABSENT
    denied = nothing in {ABSENT, UNCERTAIN}
    return UNKNOWN if denied or UNKNOWN in found else ABSENT
