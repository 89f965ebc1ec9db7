"""A chest as a map of X-ray density, from implicit shapes with soft edges.

Coordinates: x from -1 (the patient's right, image left) to 1, y from -1 (neck) to 1 (abdomen).
Density is additive attenuation in arbitrary units: air near 0, soft tissue about 1, more is
brighter on the film. Structures follow the frontal radiograph as any textbook draws it; sizes
are proportions of the field, not measurements of patients.
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


def draw_body(canvas: Canvas, visit: Visit, rng: np.random.Generator) -> None:
    """Add soft tissue, air in the lungs, heart, great vessels, spine, ribs and markings."""
    _soft_tissue(canvas, visit, rng)
    _lung_air(canvas)
    _mediastinum(canvas, visit)
    _markings(canvas, rng)
    _skeleton(canvas, visit, rng)


def _soft_tissue(canvas: Canvas, visit: Visit, rng: np.random.Generator) -> None:
    c, x, y = canvas.chest, canvas.ax, canvas.y
    neck = 0.24 + np.clip((y + 1.0) / 0.28, 0.0, 1.0) ** 1.5 * 0.9
    wall = c.width + 0.13 + 0.06 * y
    half = np.where(y < -0.62, np.maximum(neck, 0.24), np.maximum(wall, 1.14 - (y + 0.62) * 1.1))
    inside = canvas.soft(half - x, 0.05)
    thick = np.sqrt(np.clip(1.0 - (x / (half + 0.12)) ** 2, 0.0, 1.0))
    canvas.density += inside * (0.45 + 0.55 * thick)
    for side in SIDES:
        belly = canvas.soft(canvas.y - canvas.diaphragm(side), 0.03)
        canvas.density += 0.16 * belly * inside * canvas.soft(canvas.x * side, 0.02)
    if visit.sex == "F":
        sag = float(rng.normal(0.34, 0.04))
        for side in SIDES:
            breast = canvas.disc(0.47 * side, sag, 0.30, 0.26, 0.15)
            canvas.density += np.float32(0.11) * breast
    bubble = canvas.disc(0.42, c.base[1] + 0.17, 0.14, 0.06, 0.3)  # air in the stomach
    canvas.density -= np.float32(rng.uniform(0.0, 0.25)) * bubble


def _lung_air(canvas: Canvas) -> None:
    for mask in canvas.lungs.values():
        middle = np.clip(canvas.y - canvas.chest.apex, 0.0, 0.5) * 2  # apices hold less air
        canvas.density -= mask * np.float32(canvas.chest.aeration) * (0.62 + 0.38 * middle)


def _mediastinum(canvas: Canvas, visit: Visit) -> None:
    c = canvas.chest
    floor = c.base[1]
    middle = canvas.soft(c.mediastinum - canvas.ax, 0.06) * canvas.soft(canvas.y + 0.95, 0.1)
    size = c.heart / 0.29
    # The left ventricle points down and to the patient's left and rests on the diaphragm.
    heart = canvas.disc(0.13 * size**1.5, floor - 0.15, 0.31 * size, 0.215 * size**0.6, 0.1, 0.55)
    right = canvas.disc(-0.06, floor - 0.17, 0.15 + 0.25 * (c.heart - 0.28), 0.25, 0.12)
    trunk = canvas.disc(0.09, floor - 0.42, 0.13, 0.20, 0.25)  # pulmonary artery, left atrium
    heart = np.maximum(heart, 0.95 * trunk)
    knob = canvas.disc(c.mediastinum + 0.01, -0.36, 0.075 + 0.0005 * visit.age, 0.08, 0.2)
    hila = canvas.disc(-0.18, -0.02, 0.09, 0.14, 0.5) + canvas.disc(0.19, -0.07, 0.09, 0.13, 0.5)
    solid = np.maximum(np.maximum(heart, right), np.maximum(0.8 * middle, 0.85 * knob))
    air = (canvas.lungs[-1] + canvas.lungs[1]) * np.float32(c.aeration * 0.95)
    canvas.density += solid * (np.float32(0.10) + air) + np.float32(0.14) * hila
    spine = canvas.soft(0.075 - canvas.ax, 0.03)
    discs = 0.5 + 0.5 * np.sin(canvas.y * np.float32(38.0))
    canvas.density += spine * (np.float32(0.10) + np.float32(0.05) * discs)
    trachea = canvas.soft(0.035 - np.abs(canvas.x + 0.005), 0.02) * canvas.soft(
        -0.25 - canvas.y, 0.05
    )
    canvas.density -= np.float32(0.16) * trachea


def _markings(canvas: Canvas, rng: np.random.Generator) -> None:
    """Add vessels that branch out of the hila and thin towards the periphery."""
    paths: list[tuple[NDArray[np.float64], int]] = []
    values: list[int] = []
    for side, root in ((-1, (-0.17, 0.0)), (1, (0.18, -0.06))):
        for angle in np.linspace(-1.35, 1.45, 9) + rng.normal(0, 0.1, 9):
            steps = rng.normal(0, 0.16, 9).cumsum() + angle
            walk = 0.062 * np.stack([side * np.cos(steps), np.sin(steps)], axis=1).cumsum(axis=0)
            points = np.vstack([[root], np.array(root) + walk])
            paths += [(points[:4], 4), (points[3:7], 3), (points[6:], 2)]
            fork = steps[4:] + rng.choice([-0.6, 0.6])
            twig = 0.05 * np.stack([side * np.cos(fork), np.sin(fork)], axis=1).cumsum(axis=0)
            paths.append((np.vstack([points[4:5], points[4] + twig]), 2))
            values += [255, 200, 130, 130]
    layer = canvas.lines(paths, values, blur=0.7)
    canvas.density += (
        layer * np.float32(canvas.chest.vessels) * (canvas.lungs[-1] + canvas.lungs[1])
    )


def _skeleton(canvas: Canvas, visit: Visit, rng: np.random.Generator) -> None:
    c = canvas.chest
    paths: list[tuple[NDArray[np.float64], int]] = []
    values: list[int] = []
    t = np.linspace(0, 1, 12)
    for row in range(10):
        start = c.apex + 0.02 + 0.132 * row + rng.normal(0, 0.006)
        reach = min(0.26 + 0.125 * (row + 1) ** 0.95, c.width + 0.015)
        fall = c.rib_tilt * (0.5 + 0.09 * row)
        for side in SIDES:
            back = np.stack(
                [side * (0.05 + (reach - 0.05) * t), start - 0.06 * np.sin(3 * t) + fall * t**2], 1
            )
            front = np.stack(
                [side * reach * (1 - 0.5 * t**1.3), back[-1, 1] + (0.30 - 0.008 * row) * t], 1
            )
            paths += [(front, 5), (back, 6), (back, 3)]
            values += [70, 190, 140]
    layer = canvas.lines(paths, values, blur=0.35)
    rise = 0.05 if visit.view == "AP" else 0.0
    clavicles = []
    for side in SIDES:
        y = c.apex + 0.12 - rise - 0.08 * t - 0.05 * np.sin(3.1 * t)
        clavicles.append((np.stack([side * (0.06 + 0.62 * t), y], 1), 7))
    layer += np.float32(0.8) * canvas.lines(clavicles, [200, 200], blur=0.5)
    if visit.view == "AP":  # arms at the side: the scapulae lie over the lungs
        for side in SIDES:
            blade = canvas.soft(canvas.x * side - 0.50, 0.03) * canvas.soft(-0.05 - canvas.y, 0.1)
            canvas.density += np.float32(0.06) * blade * canvas.lungs[side]
    canvas.density += np.float32(0.23) * layer * canvas.soft(c.width + 0.05 - canvas.ax, 0.03)
