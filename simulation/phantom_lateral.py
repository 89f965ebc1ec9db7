"""A lateral film: simpler than the frontal one, enough for loaders that must tell them apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulation.phantom_canvas import Canvas, draw_chest
from simulation.phantom_film import expose
from simulation.phantom_patients import Visit


def render_lateral(visit: Visit, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a left lateral film (size, size) uint8: sternum left, spine right."""
    chest = draw_chest(visit, rng)
    canvas = Canvas(chest, size)
    x, y = canvas.x, canvas.y
    trunk = canvas.disc(0.0, 0.25, 0.80, 1.35, 0.06)
    canvas.density += np.float32(0.75) * trunk
    air = canvas.disc(0.0, -0.10, 0.56, 0.80, 0.08) * canvas.soft(
        chest.base[0] + 0.10 - y - 0.35 * x * x, 0.03
    )
    canvas.density -= np.float32(chest.aeration) * air
    heart = canvas.disc(-0.22, 0.20, 0.9 * chest.heart, 0.30, 0.12)
    canvas.density += np.float32(0.45) * heart
    spine = np.exp(-(((x - 0.52 - 0.10 * np.cos(2 * y)) / 0.12) ** 2))
    bodies = 0.7 + 0.3 * np.sin(y * 22.0)
    canvas.density += (0.30 * spine * bodies * trunk).astype(np.float32)
    t = np.linspace(0, 1, 10)
    ribs = [
        (np.stack([0.5 - 0.95 * t, -0.75 + 0.15 * row + 0.30 * t**1.5], 1), 4) for row in range(9)
    ]
    canvas.density += np.float32(0.12) * canvas.lines(ribs, [200] * len(ribs), blur=0.5) * trunk
    return expose(canvas, visit, rng)
