"""Who holds which radiographs: patient-disjoint splits of one cohort over hospitals.

    iid               patients at random, equal numbers
    dirichlet:ALPHA   label skew: the hospitals' shares of each finding ~ Dirichlet(ALPHA)
                      (Hsu, Qi and Brown 2019, arXiv:1909.06335, by patient instead of by sample)
    quantity:ALPHA    quantity skew: the hospitals' sizes ~ Dirichlet(ALPHA)
                      (Li et al. 2022, arXiv:2102.02079)
    silos             patients ordered by view, age, sex and findings with noise, then cut:
                      a tertiary hospital's ill AP patients beside a screening clinic's PA ones
    source            one hospital for each value of ``Record.source``, as cohorts were joined
    feature:STRENGTH  iid patients, but each hospital's films look its own way
                      (``simulation.feature_shift``; STRENGTH above 0 to 1)

A patient never crosses hospitals and every hospital holds at least one patient.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from client.data.records import PRESENT, Cohort
from ledger.errors import ConfigError, DataError

Indices = NDArray[np.int64]

SILO_NOISE = 0.75
"""Standard deviation of the noise added to a silo score of unit variance: hospitals overlap."""


def partition(cohort: Cohort, hospitals: int, scheme: str, seed: int) -> list[Indices]:
    """Split a cohort over hospitals, no patient in two of them.

    Args:
        cohort: the records to split.
        hospitals: how many parts, at least 1.
        scheme: "iid", "dirichlet:ALPHA", "quantity:ALPHA", "silos", "source" or
            "feature:STRENGTH".
        seed: fixes the split.

    Returns:
        for each hospital the sorted record indices it holds; together every record, once.

    Raises:
        ConfigError: the scheme or the number of hospitals is not valid.
        DataError: there are fewer patients (or, for "source", another number of sources) than
            hospitals.
    """
    name, alpha = parse_scheme(scheme)
    if hospitals < 1:
        raise ConfigError(f"a federation needs at least 1 hospital, not {hospitals}")
    codes = cohort.patient_codes()
    patients = len(cohort.patients())
    if patients < hospitals:
        raise DataError(f"{patients} patients cannot be split over {hospitals} hospitals")
    rng = np.random.default_rng([seed, hospitals])
    home = _SCHEMES[name](cohort, codes, hospitals, alpha, rng)
    home = _fill_empty(home, hospitals, rng)
    return [np.flatnonzero(home[codes] == h).astype(np.int64) for h in range(hospitals)]


def parse_scheme(scheme: str) -> tuple[str, float]:
    """Return the scheme's name and its number (0.0 where it takes none).

    Raises:
        ConfigError: unknown name, or the number is missing, superfluous or out of range.
    """
    name, colon, text = scheme.partition(":")
    if name not in _SCHEMES:
        raise ConfigError(f"unknown partition {scheme!r}: use {', '.join(sorted(_HOW))}")
    if name not in _NUMBERED:
        if colon:
            raise ConfigError(f"partition {name} takes no number, got {scheme!r}")
        return name, 0.0
    try:
        alpha = float(text)
    except ValueError:
        alpha = 0.0
    if not 0.0 < alpha <= _NUMBERED[name]:
        most = f" up to {_NUMBERED[name]:g}"
        raise ConfigError(f"partition {scheme!r} needs a positive number{most}: {name}:0.5")
    return name, alpha


def split_patients(cohort: Cohort, share: float, seed: int) -> tuple[Indices, Indices]:
    """Hold back a share of the patients.

    Args:
        cohort: one hospital's records.
        share: the share of patients to hold back, 0 to below 1; above 0, at least one is held
            back and at least one is left.
        seed: fixes the split.

    Returns:
        sorted record indices (to train on, held back).

    Raises:
        ConfigError: the share is out of range.
        DataError: there are too few patients to hold one back.
    """
    if not 0.0 <= share < 1.0:
        raise ConfigError(f"the held-back share must be in [0, 1), not {share}")
    codes = cohort.patient_codes()
    patients = len(cohort.patients())
    if patients < (2 if share else 1):
        raise DataError(f"{patients} patients are too few to hold one back")
    count = int(np.clip(round(share * patients), 1, patients - 1)) if share else 0
    held = np.random.default_rng([seed, 1]).permutation(patients)[:count]
    mask = np.isin(codes, held)
    return np.flatnonzero(~mask).astype(np.int64), np.flatnonzero(mask).astype(np.int64)


def _iid(
    _cohort: Cohort, codes: Indices, hospitals: int, _alpha: float, rng: np.random.Generator
) -> Indices:
    patients = int(codes.max()) + 1
    return _cut(rng.permutation(patients), np.full(hospitals, 1 / hospitals))


def _quantity(
    _cohort: Cohort, codes: Indices, hospitals: int, alpha: float, rng: np.random.Generator
) -> Indices:
    patients = int(codes.max()) + 1
    return _cut(rng.permutation(patients), rng.dirichlet(np.full(hospitals, alpha)))


def _dirichlet(
    cohort: Cohort, codes: Indices, hospitals: int, alpha: float, rng: np.random.Generator
) -> Indices:
    """Give each finding's patients out by their own Dirichlet draw over hospitals.

    A patient counts under the rarest of its findings (so that rare ones are skewed too), or
    under "no finding".
    """
    present = patient_findings(cohort, codes)
    prevalence = present.sum(axis=0)
    rarity = np.where(present, prevalence, np.iinfo(np.int64).max)
    group = np.where(present.any(axis=1), rarity.argmin(axis=1), present.shape[1])
    home = np.zeros(len(present), dtype=np.int64)
    for finding in np.unique(group):
        members = rng.permutation(np.flatnonzero(group == finding))
        shares = rng.dirichlet(np.full(hospitals, alpha))
        home[members] = _cut(np.arange(len(members)), shares)
    return home


def _silos(
    cohort: Cohort, codes: Indices, hospitals: int, _alpha: float, rng: np.random.Generator
) -> Indices:
    score = silo_scores(cohort, codes)
    order = np.argsort(score + rng.normal(0.0, SILO_NOISE, len(score)), kind="stable")
    return _cut(order, np.full(hospitals, 1 / hospitals))


def _source(
    cohort: Cohort, codes: Indices, hospitals: int, _alpha: float, _rng: np.random.Generator
) -> Indices:
    names = sorted({record.source for record in cohort.records})
    if len(names) != hospitals:
        raise DataError(f"{len(names)} sources cannot be {hospitals} hospitals")
    home = np.zeros(int(codes.max()) + 1, dtype=np.int64)
    for code, record in zip(codes, cohort.records, strict=True):
        home[code] = names.index(record.source)
    return home


_SCHEMES: dict[str, Callable[[Cohort, Indices, int, float, np.random.Generator], Indices]] = {
    "iid": _iid,
    "dirichlet": _dirichlet,
    "quantity": _quantity,
    "silos": _silos,
    "source": _source,
    "feature": _iid,
}
_NUMBERED = {"dirichlet": 1e6, "quantity": 1e6, "feature": 1.0}
"""Schemes that take a number, and the largest one."""
_HOW = (
    "iid",
    "dirichlet:ALPHA",
    "quantity:ALPHA",
    "silos",
    "source",
    "feature:STRENGTH",
)


def patient_findings(cohort: Cohort, codes: Indices) -> NDArray[np.bool_]:
    """Return (P, L): whether any image of the patient shows the finding."""
    present = np.zeros((int(codes.max()) + 1, len(cohort.vocabulary)), dtype=bool)
    np.logical_or.at(present, codes, cohort.label_matrix() == PRESENT)
    return present


def silo_scores(cohort: Cohort, codes: Indices) -> NDArray[np.float64]:
    """Return (P,) a score of unit variance: high for old, ill patients imaged AP.

    Share of AP images, age, sex and number of findings, each standardised over the patients
    (unknown values count as the mean) and weighted 2 : 1 : 0.5 : 1.5.
    """
    views = {"AP": 1.0, "PA": 0.0}
    sexes = {"M": 1.0, "F": 0.0}
    columns = (
        [views.get(r.view or "", np.nan) for r in cohort.records],
        [np.nan if r.age is None else float(r.age) for r in cohort.records],
        [sexes.get(r.sex or "", np.nan) for r in cohort.records],
    )
    findings = patient_findings(cohort, codes).sum(axis=1).astype(np.float64)
    ap, age, sex = (_patient_mean(np.array(column), codes) for column in columns)
    parts = [_standard(part) for part in (ap, age, sex, findings)]
    score = 2.0 * parts[0] + parts[1] + 0.5 * parts[2] + 1.5 * parts[3]
    return _standard(score)


def _patient_mean(values: NDArray[np.float64], codes: Indices) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    patients = int(codes.max()) + 1
    count = np.bincount(codes[known], minlength=patients)
    total = np.bincount(codes[known], weights=values[known], minlength=patients)
    overall = float(values[known].mean()) if known.any() else 0.0
    return np.where(count > 0, total / np.maximum(count, 1), overall)


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((values - values.mean()) / max(float(values.std()), 1e-12))


def _cut(order: Indices, shares: NDArray[np.float64]) -> Indices:
    """Return for each patient its part, cutting ``order`` into consecutive shares."""
    edges = np.rint(np.cumsum(shares)[:-1] * len(order)).astype(np.int64)
    home = np.empty(len(order), dtype=np.int64)
    home[order] = np.searchsorted(edges, np.arange(len(order)), side="right")
    return home


def _fill_empty(home: Indices, hospitals: int, rng: np.random.Generator) -> Indices:
    """Move one patient of the largest hospital to each empty one."""
    for hospital in range(hospitals):
        sizes = np.bincount(home, minlength=hospitals)
        if sizes[hospital] == 0:
            donors = np.flatnonzero(home == sizes.argmax())
            home[rng.choice(donors)] = hospital
    return home
