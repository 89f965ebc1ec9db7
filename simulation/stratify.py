"""Patients held back so that every finding is held back alike.

A random split of few patients may leave a rare finding on one side only. Here patients are dealt
one by one, those of the rarest finding that is still to be dealt first, each to the side that still
lacks most of it (iterative stratification: Sechidis, Tsoumakas and Vlahavas, ECML 2011), so both
sides keep every finding's share as nearly as whole patients allow. Nobody is on both sides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from client.data.records import PRESENT, Cohort
from ledger.errors import ConfigError, DataError
from simulation.partition import Indices


def stratified_split(cohort: Cohort, share: float, seed: int) -> tuple[Indices, Indices]:
    """Hold back a share of the patients, and of each finding's patients.

    Args:
        cohort: the records.
        share: of patients to hold back, 0 to 0.5; above 0, at least one.
        seed: breaks ties and fixes the order.

    Returns:
        sorted record indices (to train on, held back).

    Raises:
        ConfigError: the share is out of range.
        DataError: there are too few patients to hold one back.
    """
    if not 0 <= share <= 0.5:
        raise ConfigError(f"the held-back share must be in [0, 0.5], not {share}")
    codes = cohort.patient_codes()
    patients = len(cohort.patients())
    if patients < (2 if share else 1):
        raise DataError(f"{patients} patients are too few to hold one back")
    has = np.zeros((patients, len(cohort.vocabulary)), dtype=bool)
    np.logical_or.at(has, codes, cohort.label_matrix() == PRESENT)
    side = _deal(has, share, np.random.default_rng([seed, 2]))
    if share and not side.any():
        side[0] = True
    mask = side[codes]
    return np.flatnonzero(~mask).astype(np.int64), np.flatnonzero(mask).astype(np.int64)


def _deal(
    has: NDArray[np.bool_], share: float, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Return which patients are held back: (P, L) -> (P,)."""
    order = generator.permutation(len(has))
    wanted = np.outer([1 - share, share], has.sum(axis=0))  # (2 sides, L)
    room = np.array([1 - share, share]) * len(has)
    side = np.zeros(len(has), dtype=bool)
    left = np.ones(len(has), dtype=bool)
    while left.any():
        counts = has[left].sum(axis=0)
        if not counts.any():
            break
        rarest = int(np.argmin(np.where(counts > 0, counts, np.iinfo(np.int64).max)))
        for patient in order[left[order] & has[order, rarest]]:
            held = _lacks_more(wanted[:, rarest], room)
            side[patient], left[patient] = bool(held), False
            wanted[held] -= has[patient]
            room[held] -= 1
    for patient in order[left[order]]:  # without a finding: by what room is left
        held = int(room[1] > room[0] * share / (1 - share))
        side[patient] = bool(held)
        room[held] -= 1
    return side


def _lacks_more(wanted: NDArray[np.float64], room: NDArray[np.float64]) -> int:
    """Return 1 where the held-back side lacks more of a finding; ties go by room."""
    if wanted[0] != wanted[1]:
        return int(wanted[1] > wanted[0])
    return int(room[1] > room[0])
