"""Whose radiographs a simulated federation trains and is scored on.

``data`` names a folder of any kind of source, or several separated by commas, which are joined
(``--partition source`` makes each a hospital). The model tells the 14 NIH findings, with
``findings = "union"`` all that any source labels, or with ``findings = "abnormal"`` one: whether
there is any. What a source does not label of them is unknown and masked; what it labels beside them
is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.data.pipeline import HEAD, Preprocessing, prepared_as
from client.data.preprocess import load_pixels
from client.data.records import Cohort
from client.data.sources import Subset, has_list, load_sources
from client.data.uncertainty import Policy
from client.data.vocabulary import ABNORMAL, project, union
from ledger.errors import ConfigError, DataError
from simulation.partition import Indices, partition, split_patients
from simulation.phantoms import write_phantoms
from simulation.settings import PHANTOMS, Settings


@dataclass(frozen=True, kw_only=True)
class Shares:
    """One hospital's rows of the training cohort; patients of the two parts are disjoint."""

    train: Indices
    held: Indices


@dataclass(frozen=True, kw_only=True)
class Cohorts:
    """What was loaded: who trains on what, and the central test set, if there is one."""

    train: Cohort
    hospitals: tuple[Shares, ...]
    test: Cohort | None

    def units(self, unit: str) -> list[int]:
        """Return how many patients (or images: ``unit``) each hospital trains on."""
        if unit == "image":
            return [len(share.train) for share in self.hospitals]
        codes = self.train.patient_codes()
        return [len(np.unique(codes[share.train])) for share in self.hospitals]


def gather(settings: Settings, phantom_folder: Path) -> Cohorts:
    """Load (or draw) the data and cut it into hospitals; no file of the data is changed.

    Args:
        settings: which data, how many hospitals, how to partition.
        phantom_folder: where phantoms are written, if they are asked for.

    Raises:
        DataError, ConfigError: the data cannot be used, or not for so many hospitals.
    """
    roots = [Path(part.strip()) for part in settings.data.split(",")]
    if settings.data == PHANTOMS:
        write_phantoms(phantom_folder, settings.patients, settings.seed, size=settings.size)
        roots = [phantom_folder]
    train = _load(roots, "train", settings.known_findings, settings.uncertain)
    test = _test_cohort(settings, roots, train.vocabulary)
    _no_shared_patients(train, test, separate=bool(settings.test))
    rows = partition(train, settings.hospitals, settings.partition, settings.seed)
    shares = []
    for number, mine in enumerate(rows):
        part = train.select(mine)
        kept, held = split_patients(part, settings.held_back, settings.seed + number)
        shares.append(Shares(train=mine[kept], held=mine[held]))
    return Cohorts(train=train, hospitals=tuple(shares), test=test)


def preprocessing_of(settings: Settings) -> Preprocessing:
    """Return what is done to every film.

    Raises:
        ConfigError: an option is unknown or out of range.
    """
    try:
        return Preprocessing(size=settings.size, **settings.preprocess_options)
    except TypeError:
        known = ", ".join(name for name in Preprocessing(size=64).config() if name != "size")
        raise ConfigError(f"preprocess_options are {known}") from None


def films_of(settings: Settings, cohort: Cohort, scratch: Path | None = None) -> NDArray[np.uint8]:
    """Return a cohort's films (N, 1, S, S), from the settings' cache where there is one.

    Args:
        settings: the run's.
        cohort: whose films.
        scratch: where they lie, mapped, where there is no cache; None: in memory.

    Raises:
        DataError: an image cannot be read.
    """
    cache = Path(settings.cache) if settings.cache else scratch
    plan = preprocessing_of(settings)
    _check_prepared(cohort, plan)
    return load_pixels(cohort, settings.size, cache, plan=plan)


def _check_prepared(cohort: Cohort, plan: Preprocessing) -> None:
    """Refuse films that were prepared otherwise than the run's terms will say.

    Raises:
        DataError: one was (named), or cannot be read.
    """
    for record in cohort.records:
        try:
            with record.image.open("rb") as stream:
                head = stream.read(HEAD)
        except OSError as error:
            raise DataError(f"image {record.image_id} cannot be read ({error.strerror})") from None
        if not prepared_as(head, plan):
            raise DataError(
                f"image {record.image_id} was prepared by other steps than this run's: give the"
                " same preprocess_options as data prepare had, or prepare the set again"
            )


def _test_cohort(settings: Settings, roots: list[Path], findings: tuple[str, ...]) -> Cohort | None:
    """Return the folder given for scoring, or else the data's own test lists, if any.

    Raises:
        ConfigError: the folder given is one that is trained on and has no test list of its own.
    """
    if settings.test:
        same = any(root.resolve() == Path(settings.test).resolve() for root in roots)
        if same and not has_list(Path(settings.test), "test"):
            raise ConfigError("the folder to score on is trained on, and has no test list")
        return _load([Path(settings.test)], "test", findings)
    listed = [root for root in roots if has_list(root, "test")]
    return _load(listed, "test", findings) if listed else None


def _load(
    roots: list[Path],
    subset: Subset,
    findings: tuple[str, ...] | None,
    policy: str = Policy.IGNORE,
) -> Cohort:
    """Return the sources' radiographs under these findings; None: under all that they label."""
    made = findings if findings and ABNORMAL in findings else None  # from each source's own labels
    loaded = load_sources(roots, subset, policy=policy, vocabulary=made)
    return project(loaded, union([loaded.vocabulary]) if findings is None else findings)


def _no_shared_patients(train: Cohort, test: Cohort | None, *, separate: bool) -> None:
    """Refuse a patient on both sides; a separate folder numbers its patients on its own."""
    if test is None or separate:
        return
    both = sorted(set(train.patients()) & set(test.patients()))
    if both:
        raise DataError(f"{len(both)} patients are in both lists, {both[0]} among them")
