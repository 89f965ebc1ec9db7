"""A chest as a map of X-ray density, from implicit shapes with soft edges.

Structures follow the frontal radiograph as any textbook draws it; sizes are proportions of the
field, not measurements of patients.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulation.phantom_canvas import SIDES, Canvas, Field
from simulation.phantom_patients import Visit


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
    middle = canvas.soft(c.mediastinum - canvas.ax, 0.06) * canvas.soft(canvas.y + 0.95, 0.1)
    knob = canvas.disc(c.mediastinum + 0.01, -0.36, 0.075 + 0.0005 * visit.age, 0.08, 0.2)
    hila = canvas.disc(-0.18, -0.02, 0.09, 0.14, 0.5) + canvas.disc(0.19, -0.07, 0.09, 0.13, 0.5)
    solid = np.maximum(heart_shape(canvas), np.maximum(0.8 * middle, 0.85 * knob))
    air = (canvas.lungs[-1] + canvas.lungs[1]) * np.float32(c.aeration * 0.95)
    canvas.density += solid * (np.float32(0.10) + air) + np.float32(0.14) * hila
    spine = canvas.soft(0.075 - canvas.ax, 0.03)
    discs = 0.5 + 0.5 * np.sin(canvas.y * np.float32(38.0))
    canvas.density += spine * (np.float32(0.10) + np.float32(0.05) * discs)
    trachea = canvas.soft(0.035 - np.abs(canvas.x + 0.005), 0.02) * canvas.soft(
        -0.25 - canvas.y, 0.05
    )
    canvas.density -= np.float32(0.16) * trachea


def heart_shape(canvas: Canvas) -> Field:
    """Return the soft mask of the heart and the roots of its vessels."""
    c, floor = canvas.chest, canvas.chest.base[1]
    size = c.heart / 0.29
    # The left ventricle points down and to the patient's left and rests on the diaphragm.
    heart = canvas.disc(0.13 * size**1.5, floor - 0.15, 0.31 * size, 0.215 * size**0.6, 0.1, 0.55)
    right = canvas.disc(-0.06, floor - 0.17, 0.15 + 0.25 * (c.heart - 0.28), 0.25, 0.12)
    trunk = canvas.disc(0.09, floor - 0.42, 0.13, 0.20, 0.25)  # pulmonary artery, left atrium
    shape: Field = np.maximum(np.maximum(heart, 0.95 * trunk), right)
    return shape


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
