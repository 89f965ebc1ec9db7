"""A simulated hospital's data file: its films and labels, and how both came to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.data.records import UNCERTAIN, UNKNOWN, Cohort
from client.data.uncertainty import Policy
from client.data_terms import DataTerms
from client.learners.interface import Learner
from client.self_train import local_plan, self_train
from client.shard import Shard
from client.train import TrainPlan
from simulation.cohorts import Shares, films_of, preprocessing_of
from simulation.feature_shift import as_partitioned
from simulation.settings import Settings


def data_terms_of(settings: Settings, findings: tuple[str, ...]) -> DataTerms:
    """Return what every hospital's data and every round's configuration say of the data.

    Raises:
        ConfigError: a preprocessing option is unknown or out of range.
    """
    return DataTerms(
        findings=findings,
        preprocessing=preprocessing_of(settings).config(),
        uncertain=settings.uncertain,
    )


def hospital_shard(
    settings: Settings,
    cohort: Cohort,
    rows: Shares,
    number: int,
    *,
    learner: Learner,
    plan: TrainPlan,
    scratch: Path,
) -> Shard:
    """Return hospital ``number``'s data; under ``selftrained`` its labels are its own model's.

    Args:
        settings: the run's.
        cohort: all training records.
        rows: which of them are this hospital's.
        number: of the hospital, from 0.
        learner: the run's, which self-training trains.
        plan: the run's training plan.
        scratch: where films may lie, mapped, until the shard is written.

    Raises:
        DataError: an image is missing or unreadable.
    """
    codes, labels = cohort.patient_codes(), cohort.label_matrix()
    films = [
        _films(settings, cohort.select(part), number, scratch) for part in (rows.train, rows.held)
    ]
    own = labels[rows.train]
    if settings.uncertain == Policy.SELFTRAINED:
        alone = local_plan(plan, settings.self_epochs)
        own = self_train(learner, films[0], own, alone, seed=settings.seed + number)
    # What is scored is scored on certain labels alone, as in the CheXpert paper.
    held = np.where(labels[rows.held] == UNCERTAIN, UNKNOWN, labels[rows.held])
    return Shard(
        train_pixels=films[0],
        train_labels=own,
        train_patients=codes[rows.train],
        held_pixels=films[1],
        held_labels=held.astype(np.int8),
        held_patients=codes[rows.held],
        terms=data_terms_of(settings, cohort.vocabulary),
    )


def _films(settings: Settings, cohort: Cohort, hospital: int, scratch: Path) -> NDArray[np.uint8]:
    """Return a hospital's films as it would have made them, where the partition says so."""
    pixels = films_of(settings, cohort, scratch)
    return as_partitioned(pixels, hospital, settings.partition, settings.seed)
