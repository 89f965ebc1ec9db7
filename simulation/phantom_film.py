"""From density to film: exposure, devices, burnt-in marks, noise, 8 bits."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from simulation.phantom_anatomy import draw_body, heart_shape
from simulation.phantom_canvas import Canvas, draw_chest
from simulation.phantom_findings import add_findings
from simulation.phantom_patients import Visit

MIN_SIZE, MAX_SIZE = 32, 2048
_VISIBLE = 0.05
"""Change of density that counts as seen."""
_INSIDE = 0.5


@dataclass(frozen=True, kw_only=True)
class Film:
    """A radiograph and the truth of where things are on it, each (size, size).

    Attributes:
        pixels: uint8, bright where dense.
        lungs: bool, air-filled lung.
        heart: bool.
        signs: bool, where a finding's sign changed the density.
        devices: bool, where a line, lead or tube lies.
        marks: bool, burnt-in letters.
    """

    pixels: NDArray[np.uint8]
    lungs: NDArray[np.bool_]
    heart: NDArray[np.bool_]
    signs: NDArray[np.bool_]
    devices: NDArray[np.bool_]
    marks: NDArray[np.bool_]


def render(visit: Visit, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one frontal radiograph, (size, size) uint8, bright where dense."""
    return draw_film(visit, size, rng).pixels


def draw_film(visit: Visit, size: int, rng: np.random.Generator) -> Film:
    """Return one frontal radiograph with the truth of what lies where."""
    canvas = Canvas(draw_chest(visit, rng), size)
    draw_body(canvas, visit, rng)
    bare = canvas.density.copy()
    add_findings(canvas, visit.severity, rng)
    signs = np.abs(canvas.density - bare) > _VISIBLE
    bare = canvas.density.copy()
    if visit.view == "AP" and rng.random() < 0.25 + 0.15 * min(len(visit.severity), 4):
        _devices(canvas, rng)
    devices = canvas.density - bare > _VISIBLE
    unmarked = _develop(canvas, visit, rng)
    pixels = unmarked.copy()
    _marks(pixels, visit, rng)
    return Film(
        pixels=pixels,
        lungs=canvas.lungs[-1] + canvas.lungs[1] > _INSIDE,
        heart=heart_shape(canvas) > _INSIDE,
        signs=signs,
        devices=devices,
        marks=pixels != unmarked,
    )


def _devices(canvas: Canvas, rng: np.random.Generator) -> None:
    """Add a central line, leads or a tube, as patients imaged in bed have."""
    t = np.linspace(0, 1, 14)
    line = np.stack([-0.45 + 0.37 * t**0.5, -0.72 + 0.75 * t**1.5], 1)
    paths, values = [(line, 2)], [200]
    for _ in range(int(rng.integers(1, 4))):
        ends = rng.uniform(-0.8, 0.8, (3, 2))
        lead = (1 - t)[:, None] ** 2 * ends[0] + (2 * t * (1 - t))[:, None] * ends[1]
        paths.append((lead + t[:, None] ** 2 * ends[2], 2))
        values.append(int(rng.integers(90, 200)))
    if rng.random() < 0.5:
        tube = np.stack([0.005 + 0.01 * t, -1.0 + 0.72 * t], 1)
        paths.append((tube, 3))
        values.append(210)
    canvas.density += np.float32(0.35) * canvas.lines(paths, values)


def expose(canvas: Canvas, visit: Visit, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the film of a canvas: contrast curve, blur, grain, 8 bits, marks."""
    pixels = _develop(canvas, visit, rng)
    _marks(pixels, visit, rng)
    return pixels


def _develop(canvas: Canvas, visit: Visit, rng: np.random.Generator) -> NDArray[np.uint8]:
    size, ap = canvas.size, visit.view == "AP"
    contrast = rng.normal(3.6 if ap else 4.2, 0.25)
    centre = rng.normal(0.64, 0.03)
    film = 1.0 / (1.0 + np.exp(-contrast * (canvas.density - centre)))
    film = canvas.blurred(film.astype(np.float32), 0.7 if ap else 0.45)
    grain = rng.standard_normal((size, size)).astype(np.float32)
    film += np.float32(0.022 if ap else 0.014) * grain
    film = (film - film.min()) / (film.max() - film.min())
    pixels: NDArray[np.uint8] = np.rint(film * 255).astype(np.uint8)
    return pixels


def _marks(pixels: NDArray[np.uint8], visit: Visit, rng: np.random.Generator) -> None:
    """Burn in the side marker and, on some films taken in bed, "AP"."""
    size = pixels.shape[0]
    scale = size / 260
    top = int(size * rng.uniform(0.08, 0.14))
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(pixels, "L", (int(size * 0.91), top), font, scale, 240, 1, cv2.LINE_AA)
    if visit.view == "AP" and rng.random() < 0.6:
        cv2.putText(pixels, "AP", (int(size * 0.02), top), font, scale, 240, 1, cv2.LINE_AA)
