"""The pointing game: does a finding's highest point lie where radiologists drew it?

Zhang et al., ECCV 2016 ("Top-down neural attention by excitation backprop", section 4.1): the
highest point of a film's map of a finding is a hit if it lies within any box of that finding, or
near it. Their tolerance is 15 pixels on images of 224: ``TOLERANCE`` of the side, by distance from
the box. Beside it stand the rate without tolerance, and what two points would score that saw no
film: its middle, and one drawn evenly (that rate is computed, not drawn). A map that is zero
everywhere has no highest point and is a miss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from client.data.boxes import BOXES, Box, load_boxes
from client.data.nih import Subset, load_nih
from client.data.preprocess import load_pixels
from client.data.vocabulary import ABNORMAL
from client.learners.determinism import deterministic
from client.learners.explain import grad_cam, peak
from client.learners.inputs import standardise
from client.learners.target import find_target
from ledger.errors import DataError
from simulation.predict import FinalModel

TOLERANCE = 15 / 224
_RASTER = 224
"""Points a side over which the rate of an evenly drawn point is computed."""
_BATCH = 32
Point = tuple[float, float]
"""(x, y) in shares of the sides."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One finding's pointing game.

    Attributes:
        finding: its name.
        films: with at least one box of it.
        hits: films whose peak lies within the tolerance of a box.
        strict: films whose peak lies within a box.
        centre: hits of the film's middle.
        random: expected hits of an evenly drawn point.
    """

    finding: str
    films: int
    hits: int
    strict: int
    centre: int
    random: float

    @property
    def rates(self) -> dict[str, float]:
        """The counts as shares of the films."""
        return {
            "rate": self.hits / self.films,
            "strict_rate": self.strict / self.films,
            "centre_rate": self.centre / self.films,
            "random_rate": self.random / self.films,
        }

    def to_record(self) -> dict[str, object]:
        """Return counts and rates as JSON values."""
        return {
            "finding": self.finding,
            "films": self.films,
            "hits": self.hits,
            **self.rates,
        }


@dataclass(frozen=True, kw_only=True)
class Game:
    """All findings' scores; ``outside`` counts boxed films that are not of the chosen list."""

    scores: tuple[Score, ...]
    grid: tuple[int, int]
    outside: int

    @property
    def total(self) -> Score:
        """All films pooled: a film counts once for each finding drawn on it."""
        return Score(
            finding="all",
            films=sum(s.films for s in self.scores),
            hits=sum(s.hits for s in self.scores),
            strict=sum(s.strict for s in self.scores),
            centre=sum(s.centre for s in self.scores),
            random=sum(s.random for s in self.scores),
        )

    def to_record(self) -> dict[str, object]:
        """Return JSON values; ``mean_rate`` weighs findings alike."""
        return {
            "tolerance": TOLERANCE,
            "grid": list(self.grid),
            "findings": [score.to_record() for score in self.scores],
            "all": self.total.to_record(),
            "mean_rate": float(np.mean([s.hits / s.films for s in self.scores])),
            "outside": self.outside,
        }


def distance(points: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """Return how far points (..., 2) lie from a box, zero within, in shares of the side."""
    x = np.maximum(box.left - points[..., 0], points[..., 0] - box.left - box.width)
    y = np.maximum(box.top - points[..., 1], points[..., 1] - box.top - box.height)
    return np.asarray(np.hypot(np.maximum(x, 0), np.maximum(y, 0)))


def score(finding: str, peaks: Sequence[Point | None], boxes: Sequence[Sequence[Box]]) -> Score:
    """Score peaks, one a film, against that film's boxes of the finding (at least one each)."""
    axis = (np.arange(_RASTER) + 0.5) / _RASTER
    raster = np.stack(np.meshgrid(axis, axis), axis=-1)
    hits = strict = centre = 0
    random = 0.0
    for at, drawn in zip(peaks, boxes, strict=True):
        if at is not None:
            off = min(float(distance(np.array(at), box)) for box in drawn)
            hits += off <= TOLERANCE
            strict += off <= 0
        centre += any(distance(np.array([0.5, 0.5]), box) <= TOLERANCE for box in drawn)
        near = [distance(raster, box) <= TOLERANCE for box in drawn]
        random += float(np.logical_or.reduce(near).mean())
    return Score(
        finding=finding,
        films=len(boxes),
        hits=hits,
        strict=strict,
        centre=centre,
        random=random,
    )


def _of(box: Box, finding: str) -> bool:
    """Return whether a box is of a finding; every box is of something abnormal."""
    return finding in {box.finding, ABNORMAL}


def play(
    final: FinalModel,
    root: Path,
    subset: Subset | None,
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Game:
    """Play the game on an NIH tree with the release's boxes.

    Args:
        final: the model.
        root: of the tree.
        subset: which list's films; a film that trained the model would flatter it.
        threads: torch threads.
        progress: called with (film-finding pairs done, all).

    Raises:
        DataError: no boxes, or none of a film of the list and a finding that the model tells.
    """
    drawn = load_boxes(root)
    if not drawn:
        raise DataError(f"{root} has no {BOXES} with boxes to point at")
    cohort = load_nih(root, subset)
    rows = [i for i, record in enumerate(cohort.records) if record.image_id in drawn]
    films = cohort.select(rows)
    boxes = [drawn[record.image_id] for record in films.records]
    told = final.chosen.findings
    pairs = {
        name: [i for i, mine in enumerate(boxes) if any(_of(box, name) for box in mine)]
        for name in told
    }
    total = sum(map(len, pairs.values()))
    if not total:
        raise DataError(f"no box of {BOXES} is of a film of this list and a finding of the model")
    pixels = load_pixels(films, final.films.size, plan=final.films)
    target = find_target(final.learner, final.module)
    scores, done, grid = [], 0, (0, 0)
    for name, mine in pairs.items():
        peaks: list[Point | None] = []
        for start in range(0, len(mine), _BATCH):
            chunk = mine[start : start + _BATCH]
            images = standardise(torch.from_numpy(pixels[chunk]))
            with deterministic(seed=0, threads=threads):
                maps = grad_cam(final.learner, final.module, target, images, [told.index(name)])
            peaks += [peak(cells) for cells in maps[:, 0]]
            grid = maps.shape[2], maps.shape[3]
            done += len(chunk)
            if progress is not None:
                progress(done, total)
        if mine:
            of_it = [[box for box in boxes[i] if _of(box, name)] for i in mine]
            scores.append(score(name, peaks, of_it))
    return Game(scores=tuple(scores), grid=grid, outside=len(drawn) - len(rows))
