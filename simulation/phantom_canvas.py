"""One film in the making: a chest's proportions, and the canvas its density is drawn on.

Coordinates: x from -1 (the patient's right, image left) to 1, y from -1 (neck) to 1 (abdomen).
Density is additive attenuation in arbitrary units: air near 0, soft tissue about 1, more is
brighter on the film.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from simulation.phantom_patients import Visit

Field = NDArray[np.float32]
SIDES = (-1, 1)
"""-1 is the patient's right lung, on the image's left."""


@dataclass(frozen=True, kw_only=True)
class Chest:
    """The proportions of one chest on one film (fractions of half the field).

    Attributes:
        width: half width of the lungs at the base.
        apex: y of the lung tops; base: y of the diaphragm's dome, right and left.
        dome: height of the dome over the costophrenic angles.
        heart: half width of the heart; mediastinum: half width above it.
        rib_tilt: how steeply ribs fall to the side.
        aeration: density taken away by air in the lungs.
        vessels: strength of vascular markings.
        shift: the centre line's displacement; tilt: rotation in radians.
    """

    width: float
    apex: float
    base: tuple[float, float]
    dome: float
    heart: float
    mediastinum: float
    rib_tilt: float
    aeration: float
    vessels: float
    shift: tuple[float, float]
    tilt: float


def draw_chest(visit: Visit, rng: np.random.Generator) -> Chest:
    """Draw the proportions of a visit's chest; some findings act here (heart, volume)."""
    has = visit.severity.get
    ap = visit.view == "AP"
    emphysema, fibrosis = has("Emphysema", 0.0), has("Fibrosis", 0.0)
    base = rng.normal(0.42 - 0.10 * ap + 0.16 * emphysema - 0.08 * fibrosis, 0.03)
    loss = 0.16 * has("Atelectasis", 0.0)  # a collapsed lobe pulls its diaphragm up
    lost = int(rng.integers(2))
    heart = rng.normal(0.29, 0.015) * (1.1 if ap else 1.0) - 0.05 * emphysema
    return Chest(
        width=float(rng.normal(0.76, 0.02) + 0.05 * emphysema),
        apex=float(rng.normal(-0.80, 0.02)),
        base=(float(base - loss * (lost == 0)), float(base + 0.06 - loss * (lost == 1))),
        dome=float(max(rng.normal(0.16, 0.02) - 0.15 * emphysema, 0.01)),
        heart=float(heart * (1.0 + 0.55 * has("Cardiomegaly", 0.0))),
        mediastinum=float(rng.normal(0.12, 0.01) * (1.15 if ap else 1.0)),
        rib_tilt=float(rng.normal(0.20, 0.02) - 0.08 * emphysema),
        aeration=float(rng.normal(0.60, 0.03) + 0.14 * emphysema - 0.05 * fibrosis),
        vessels=float(rng.normal(0.22, 0.02) * (1.0 - 0.6 * emphysema)),
        shift=(float(rng.normal(0, 0.02)), float(rng.normal(0, 0.02))),
        tilt=float(rng.normal(0, 0.025 + 0.02 * ap)),
    )


@lru_cache(maxsize=4)
def _axes(size: int) -> tuple[Field, Field]:
    line = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    return np.meshgrid(line, line)


class Canvas:
    """One film in the making: ``density`` plus the geometry that signs are drawn on.

    Attributes:
        chest: proportions; size: pixels a side.
        x, y: (S, S) coordinates in the chest's own frame (shift and tilt undone).
        lungs: side -> (S, S) soft mask 0..1.
        density: (S, S) float32, added to by every structure.
    """

    def __init__(self, chest: Chest, size: int) -> None:
        x, y = _axes(size)
        x, y = x - chest.shift[0], y - chest.shift[1]
        cos, sin = math.cos(chest.tilt), math.sin(chest.tilt)
        self.chest, self.size = chest, size
        self.x: Field = cos * x + sin * y
        self.y: Field = cos * y - sin * x
        self.ax: Field = np.abs(self.x)
        self.lungs = {side: self._lung(side) for side in SIDES}
        self.density: Field = np.zeros((size, size), dtype=np.float32)

    def soft(self, distance: NDArray[np.floating], width: float = 0.02) -> Field:
        """Return 0..1, one half where ``distance`` is 0 and 1 well inside (positive)."""
        scale = 1.0 / max(width, 1.0 / self.size)
        edge: Field = np.clip(distance.astype(np.float32) * (0.5 * scale) + 0.5, 0.0, 1.0)
        return edge

    def disc(
        self, x: float, y: float, rx: float, ry: float, edge: float = 0.25, turn: float = 0.0
    ) -> Field:
        """Return the soft mask of an ellipse.

        Args:
            x: centre.
            y: centre.
            rx: half width.
            ry: half height.
            edge: blur relative to the radius.
            turn: rotation in radians, clockwise on the film.
        """
        along, across = self.x - x, self.y - y
        if turn:
            cos, sin = math.cos(turn), math.sin(turn)
            along, across = cos * along + sin * across, cos * across - sin * along
        radius = np.sqrt((along / rx) ** 2 + (across / ry) ** 2)
        return self.soft(1.0 - radius, edge)

    def outer(self, y: Field) -> Field:
        """Return the lungs' lateral half width at height ``y``."""
        c = self.chest
        depth: Field = np.clip((y - c.apex) / 1.15, 0.0, 1.0)
        half = 0.30 + (c.width - 0.30) * np.sqrt(1 - (1 - depth) ** 2)
        return half.astype(np.float32)

    def diaphragm(self, side: int) -> Field:
        """Return y of the diaphragm's surface over the whole field (its own side counts)."""
        c = self.chest
        middle = (self.ax - 0.40) / (c.width - 0.40)
        return np.float32(c.base[side > 0]) + np.float32(c.dome) * middle**2

    def lines(
        self, paths: list[tuple[NDArray[np.float64], int]], values: list[int], blur: float = 0.0
    ) -> Field:
        """Draw polylines given in chest coordinates.

        Args:
            paths: ((K, 2) points, thickness in 1/128 of the field) each.
            values: brightness 0..255 of each path; later ones cover earlier ones.
            blur: Gaussian sigma in 1/128 of the field.

        Returns:
            (S, S) float32 in 0..1.
        """
        fine = self.size * 2
        layer = np.zeros((fine, fine), dtype=np.uint8)
        c = self.chest
        cos, sin = np.cos(c.tilt), np.sin(c.tilt)
        turn = np.array([[cos, sin], [-sin, cos]])
        for (points, thickness), value in zip(paths, values, strict=True):
            placed = (points @ turn + np.array(c.shift) + 1.0) * (fine / 2) * 16
            cv2.polylines(
                layer,
                [np.rint(placed).astype(np.int32)],
                False,
                value,
                max(1, round(thickness * fine / 256)),
                cv2.LINE_AA,
                4,
            )
        small = cv2.resize(layer, (self.size, self.size), interpolation=cv2.INTER_AREA)
        field = (small / np.float32(255)).astype(np.float32, copy=False)
        return self.blurred(field, blur) if blur else field

    def blurred(self, field: Field, sigma: float) -> Field:
        """Return ``field`` under a Gaussian of ``sigma`` in 1/128 of the field."""
        smooth = cv2.GaussianBlur(field, (0, 0), max(sigma * self.size / 128, 0.3))
        return smooth.astype(np.float32, copy=False)

    def texture(self, rng: np.random.Generator, grain: int) -> Field:
        """Return a smooth random field of about unit variance with ``grain`` cells a side."""
        coarse = rng.standard_normal((grain, grain)).astype(np.float32)
        fine = cv2.resize(coarse, (self.size, self.size), interpolation=cv2.INTER_CUBIC)
        return fine.astype(np.float32, copy=False)

    def _lung(self, side: int) -> Field:
        c = self.chest
        here = self.x * np.float32(side)
        depth = np.clip((self.y - c.apex) / 0.25, 0.0, 1.0)
        inner = 0.27 - (0.27 - c.mediastinum) * np.sqrt(1 - (1 - depth) ** 2)
        mask = self.soft(self.outer(self.y) - here) * self.soft(here - inner, 0.03)
        mask *= self.soft(self.y - c.apex, 0.04)
        return mask * self.soft(self.diaphragm(side) - self.y, 0.025)
