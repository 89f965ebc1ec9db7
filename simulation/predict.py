"""A final model, its calibration, and what both say of films.

The calibration is fitted on the run's own central test set, whose patients trained nothing, and
kept beside the model as ``calibration/<model digest>.json``: each label's line, the threshold of
the best F1, and how decisions at it did on patients other than those it was chosen on. It names
the digest of the test set it came from. No ledger vouches for it: whoever holds the run folder
made it, and can make it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from client.data.decode import is_dicom
from client.data.images import PNG_MARK, read_bytes
from client.data.pipeline import Preprocessing, process
from client.learners.calibration import calibration
from client.learners.exchange import load_model
from client.learners.inference import predict_logits
from client.learners.interface import Learner, drop_moments
from client.learners.operating import operate
from client.learners.platt import Line, apply_lines, cross_fitted, fit_lines
from client.learners.registry import from_description
from ledger.canonical import canonical_json, parse_json, sha256
from ledger.errors import CodecError, DataError, EvidenceMismatch, OutputError
from ledger.files import atomic_write, read_bounded
from ledger.run_facts import read_anchors
from server.evaluate import TestSet, digest_of, read_model
from simulation.chosen import Chosen, choose, refuse_parts
from simulation.provenance import Provenance, provenance
from simulation.testset import read_test_set

FORMAT: Final = "thoracle/calibration/v1"
MAX_CALIBRATION: Final = 1 << 20
MAX_FILES: Final = 100_000
_MARKS = (PNG_MARK, b"\xff\xd8\xff")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One label's operating point: threshold on the calibrated probability, and how it did."""

    threshold: float | None
    sensitivity: float | None
    specificity: float | None
    f1: float | None
    positives: int


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A calibration, as it is kept.

    Attributes:
        model: digest of the model it is for, hexadecimal.
        data: SHA-256 of the test set it was fitted on.
        images, patients: of the test set.
        findings: the labels, in order.
        lines: of each label.
        points: of each label.
        brier, ece: before and after, macro; after: with lines that other patients gave.
    """

    model: str
    data: str
    images: int
    patients: int
    findings: tuple[str, ...]
    lines: tuple[Line, ...]
    points: tuple[Decision, ...]
    brier: tuple[float | None, float | None]
    ece: tuple[float | None, float | None]

    def encode(self) -> bytes:
        """Return the file's bytes."""
        return canonical_json({"format": FORMAT, **_plain(asdict(self))})

    @classmethod
    def decode(cls, data: bytes) -> Calibrated:
        """Return what a file holds.

        Raises:
            EvidenceMismatch: it is no calibration.
        """
        try:
            found = parse_json(data, MAX_CALIBRATION)
            if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
                raise TypeError
            lines = tuple(Line(**line) for line in found.pop("lines"))
            points = tuple(Decision(**point) for point in found.pop("points"))
            (raw, calibrated), (off, left) = found.pop("brier"), found.pop("ece")
            kept = cls(
                findings=tuple(found.pop("findings")),
                lines=lines,
                points=points,
                brier=(raw, calibrated),
                ece=(off, left),
                **found,
            )
        except (CodecError, KeyError, TypeError, ValueError):
            raise EvidenceMismatch("a calibration file cannot be read; remove it") from None
        if not len(kept.findings) == len(kept.lines) == len(kept.points) or not _numeric(kept):
            raise EvidenceMismatch("a calibration file contradicts itself; remove it")
        return kept


def _numeric(kept: Calibrated) -> bool:
    """Return whether all that is reckoned with or printed as a number is one."""
    found: list[object] = [kept.images, kept.patients]
    found += [point.positives for point in kept.points]
    found += [value for line in kept.lines for value in (line.slope, line.offset)]
    perhaps = [*kept.brier, *kept.ece]
    for point in kept.points:
        perhaps += [point.threshold, point.sensitivity, point.specificity, point.f1]
    found += [value for value in perhaps if value is not None]
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in found)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def open_model(chosen: Chosen) -> tuple[Learner, nn.Module]:
    """Return learner and module of a run's model, its bytes checked against its name.

    Raises:
        EvidenceMismatch: the file is not what its name says.
        ConfigError: parts of the model stay at the hospitals, so it is not whole here.
    """
    learner = from_description(chosen.learner)
    refuse_parts(learner)
    module = learner.build(0)
    load_model(module, read_model(chosen.path, chosen.manifest), learner.shared(module))
    drop_moments(module)
    return learner, module.eval()


@dataclass(frozen=True, kw_only=True)
class FinalModel:
    """A model that the ledger names as final, ready for use."""

    chosen: Chosen
    origin: Provenance
    learner: Learner
    module: nn.Module

    @property
    def films(self) -> Preprocessing:
        """How films are prepared for it."""
        return self.chosen.preprocessing(self.learner.input_size)


def open_final(model: Path, trust: Path | None = None) -> FinalModel:
    """Return a model ready for use, once the run's audited record has named it as final.

    Args:
        model: run folder, or a file of its models/.
        trust: file of the federation's anchors from outside the run.

    Raises:
        ModelNotFinal: the ledger does not name it.
        ThoracleError: what ``choose``, ``provenance`` and ``open_model`` refuse.
    """
    chosen = choose(model)
    origin = provenance(chosen.run, digest_of(chosen.path), read_anchors(trust) if trust else None)
    learner, module = open_model(chosen)
    return FinalModel(chosen=chosen, origin=origin, learner=learner, module=module)


def scores_of(
    learner: Learner, module: nn.Module, pixels: NDArray[np.uint8], threads: int = 1
) -> NDArray[np.float32]:
    """Return the logits (N, L) that each finding is present."""
    outputs = predict_logits(module, pixels, threads=threads)
    return np.asarray(learner.scores(torch.from_numpy(outputs)).numpy(), dtype=np.float32)


def calibrate(model: str, scores: NDArray[np.float32], test: TestSet, data: bytes) -> Calibrated:
    """Fit a calibration on test scores.

    Args:
        model: the model's digest, hexadecimal.
        scores: (N, L) logits of the test images.
        test: the test set.
        data: SHA-256 of the file that it came from.
    """
    names = test.findings
    honest = cross_fitted(scores, test.labels, test.patients)
    lines = fit_lines(scores, test.labels)
    raw = apply_lines(scores, [Line()] * len(names))
    before, after = (calibration(said, test.labels, names) for said in (raw, honest))
    # Thresholds and how they did: on final probabilities, each fold decided by other patients.
    found = operate(apply_lines(scores, lines), test.labels, names, test.patients)
    return Calibrated(
        model=model,
        data=data.hex(),
        images=len(test.pixels),
        patients=len(set(test.patients)),
        findings=names,
        lines=lines,
        points=tuple(
            Decision(
                threshold=point.threshold,
                sensitivity=point.sensitivity,
                specificity=point.specificity,
                f1=point.f1,
                positives=point.positives,
            )
            for point in found.points
        ),
        brier=(before.brier, after.brier),
        ece=(before.ece, after.ece),
    )


def calibration_of(
    chosen: Chosen, learner: Learner, module: nn.Module, threads: int = 1
) -> Calibrated | None:
    """Return the model's calibration, fitted now where it is not kept yet; None without test set.

    Where the run folder cannot be written, it is used all the same, and fitted again next time.

    Raises:
        EvidenceMismatch: what is kept is of another model or test set, or damaged.
    """
    digest = digest_of(chosen.path).hex()
    path, test_path = chosen.run / "calibration" / f"{digest}.json", chosen.run / "test.npz"
    data = sha256(test_path.read_bytes()) if test_path.is_file() else None
    if path.is_file():
        kept = Calibrated.decode(read_bounded(path, MAX_CALIBRATION))
        other = data is not None and kept.data != data.hex()
        if kept.model != digest or kept.findings != chosen.findings or other:
            raise EvidenceMismatch(f"{path.name} is the calibration of something else; remove it")
        return kept
    if data is None:
        return None
    test = read_test_set(test_path)
    made = calibrate(digest, scores_of(learner, module, test.pixels, threads), test, data)
    with suppress(OutputError):
        atomic_write(path, made.encode(), mode=0o600)
    return made


def films(target: Path) -> tuple[Path, ...]:
    """Return the films at a path: itself, or all PNG, JPEG and DICOM files of a folder, sorted.

    Raises:
        DataError: there is none.
    """
    if target.is_file():
        return (target,)
    if not target.is_dir():
        raise DataError(f"there is no image or folder {target}")
    found = [path for path in sorted(target.rglob("*")) if path.is_file() and _is_film(path)]
    if not 0 < len(found) <= MAX_FILES:
        raise DataError(f"{target} holds {len(found)} PNG, JPEG or DICOM files; 1 to {MAX_FILES}")
    return tuple(found)


def _is_film(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return True  # what it is nobody can see: reading it says why
    return head.startswith(_MARKS) or is_dicom(head)


def read_films(
    paths: Sequence[Path], plan: Preprocessing
) -> tuple[NDArray[np.uint8], tuple[tuple[int, str], ...]]:
    """Return pixels (M, 1, S, S) of the readable films, and (place, why) of the others."""
    pixels, refused = [], []
    for place, path in enumerate(paths):
        try:
            pixels.append(process(read_bytes(path), path.name, plan)[None])
        except DataError as error:
            refused.append((place, str(error)))
    size = plan.size
    stacked = np.stack(pixels) if pixels else np.zeros((0, 1, size, size), np.uint8)
    return stacked, tuple(refused)
