"""Central scoring of a model of the ledger on test data that the server may see.

Pure: arrays in, figures out. A model file is used only if its bytes are what its name (its digest
on the chain) says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from client.learners.bootstrap import Interval
from client.learners.exchange import load_model
from client.learners.inference import Progress, predict_logits, to_probabilities
from client.learners.interface import Learner
from client.learners.metrics import Scores
from client.learners.suite import Suite, age_band, measure
from ledger.errors import DataError, EvidenceMismatch
from ledger.files import ObjectStore
from ledger.manifest import Manifest, Model, decode_model

MODEL_SUFFIX = ".safetensors"
MAX_MODEL_BYTES = 1 << 32


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """Test data as arrays, image ``i`` being row ``i`` of each.

    Args:
        pixels: (N, 1, S, S) uint8.
        labels: (N, L) int8 of 1, 0 and -1 (unknown).
        findings: the L labels' names.
        patients: of each image; intervals are drawn over them.
        views: "PA", "AP" or None of each image.
        groups: further kinds ("sex", "age", "hospital") to the group of each image, or None.

    Raises:
        DataError: no images, or lengths that differ.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    pixels: NDArray[np.uint8] = field(repr=False)
    labels: NDArray[np.int8] = field(repr=False)
    findings: tuple[str, ...]
    patients: tuple[str, ...] = field(repr=False)
    views: tuple[str | None, ...] = field(repr=False)
    groups: Mapping[str, tuple[str | None, ...]] = field(
        default_factory=lambda: MappingProxyType({}), repr=False
    )

    def __post_init__(self) -> None:
        count = len(self.pixels)
        if count == 0:
            raise DataError("there is nothing to score on: no test images")
        numbers = {len(self.labels), len(self.patients), len(self.views)}
        if numbers | {len(group) for group in self.groups.values()} != {count}:
            raise DataError("test images, labels, patients, views and groups differ in number")
        if self.labels.shape[1:] != (len(self.findings),):
            raise DataError("test labels and findings differ in number")


def groups_of(
    sexes: Sequence[str | None], ages: Sequence[int | None], hospitals: Sequence[str | None]
) -> dict[str, tuple[str | None, ...]]:
    """Return the groups of images that a test set is scored within, beside the view.

    Args:
        sexes: "F", "M" or None.
        ages: years or None; grouped by ``suite.AGE_BANDS``.
        hospitals: the hospital (or the source that stands for one), or None.
    """
    return {
        "sex": tuple(sexes),
        "age": tuple(age_band(age) for age in ages),
        "hospital": tuple(hospitals),
    }


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures of one model on one test set.

    Args:
        suite: every figure; its groups hold "view" first.
        patients: in the test set.
        scores: (N, L) logits of the images, which the figures were taken of.
    """

    suite: Suite
    patients: int
    scores: NDArray[np.float32] = field(repr=False, compare=False)

    @property
    def overall(self) -> Scores:
        """Ranking over all images."""
        return self.suite.overall

    @property
    def within(self) -> dict[str, Scores]:
        """Ranking over the images of each view alone (the view is a shortcut; see metrics)."""
        return {name: found.scores for name, found in self.suite.groups["view"].items()}

    @property
    def interval(self) -> Interval | None:
        """Of the overall macro AUC over patients, if asked for and defined."""
        return self.suite.intervals.get("macro_auc")

    def to_record(self) -> dict[str, object]:
        """Return JSON values (None for what is not defined, no NaN)."""
        return {
            "patients": self.patients,
            "within_view": {view: scores.to_record() for view, scores in self.within.items()},
            "macro_auc_interval": self.interval.to_record() if self.interval else None,
            **self.suite.to_record(),
        }


def evaluate_model(
    model: Model,
    learner: Learner,
    test: TestSet,
    *,
    resamples: int = 1000,
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a model.

    Args:
        model: exactly what the learner shares.
        learner: its family.
        test: what to score on.
        resamples: of the patient bootstrap; 0 leaves the intervals out.
        seed: of folds and bootstrap.
        threads: torch threads, part of what a result depends on.
        progress: told about images scored.

    Raises:
        SpecMismatch: the model is not this learner's.
        DataError: the test data does not fit it.
    """
    expected = (learner.channels, learner.input_size, learner.input_size)
    if test.pixels.shape[1:] != expected or len(test.findings) != learner.labels:
        raise DataError(
            f"the model takes images {expected} and {learner.labels} findings, the test data has"
            f" {test.pixels.shape[1:]} and {len(test.findings)}"
        )
    module = learner.build(0)
    load_model(module, model, learner.shared(module))
    outputs = predict_logits(module, test.pixels, threads=threads, progress=progress)
    return Evaluation(
        suite=measure(
            to_probabilities(learner, outputs),
            test.labels,
            test.findings,
            test.patients,
            groups={"view": test.views, **test.groups},
            resamples=resamples,
            seed=seed,
        ),
        patients=len(set(test.patients)),
        scores=np.asarray(learner.scores(torch.from_numpy(outputs)).numpy(), dtype=np.float32),
    )


def read_model(path: Path, manifest: Manifest) -> Model:
    """Read ``<digest>.safetensors``, refusing bytes that are not those of the name.

    Raises:
        EvidenceMissing: there is no such file.
        EvidenceMismatch: the name is no digest, or not that of the bytes.
        CodecError: the bytes are not a canonical model of this manifest.
    """
    store = ObjectStore(path.parent, MODEL_SUFFIX, limit=MAX_MODEL_BYTES)
    return decode_model(store.get(digest_of(path)), manifest)


def digest_of(path: Path) -> bytes:
    """Return the digest that a model file's name states.

    Raises:
        EvidenceMismatch: the name is not 64 hexadecimal digits and ``.safetensors``.
    """
    name = path.name.removesuffix(MODEL_SUFFIX)
    if not path.name.endswith(MODEL_SUFFIX) or len(name) != 64 or not set(name) <= _HEX:
        raise EvidenceMismatch(f"{path.name} is not named by a digest, so it cannot be checked")
    return bytes.fromhex(name)


_HEX = frozenset("0123456789abcdef")
