"""The signs of the 14 findings, each a function that adds density to a canvas.

Cardiomegaly, the hyperinflation of emphysema and the volume loss of atelectasis and fibrosis are
proportions of the chest itself (``phantom_canvas.draw_chest``); what is drawn here is the rest.
Signs follow the descriptions of the Fleischner glossary (Hansell et al., Radiology 2008).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simulation.phantom_canvas import SIDES, Canvas, Field

Sign = Callable[[Canvas, float, np.random.Generator], None]


def add_findings(canvas: Canvas, severity: dict[str, float], rng: np.random.Generator) -> None:
    """Add the signs of every finding present, in the vocabulary's order."""
    for finding, sign in SIGNS.items():
        if finding in severity:
            sign(canvas, severity[finding], rng)


def _side(rng: np.random.Generator) -> int:
    return SIDES[int(rng.integers(2))]


def _place(canvas: Canvas, side: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return a point well inside one lung."""
    x = side * rng.uniform(0.30, 0.56)
    return float(x), float(rng.uniform(-0.50, canvas.chest.base[side > 0] - 0.15))


def _atelectasis(canvas: Canvas, severity: float, rng: np.random.Generator) -> None:
    """Plate-like bands over the base."""
    side = _side(rng)
    paths = []
    for _ in range(3):
        y = canvas.chest.base[side > 0] - rng.uniform(0.03, 0.24)
        tilt = rng.uniform(-0.08, 0.08)
        points = np.array([[side * 0.22, y], [side * 0.45, y + tilt], [side * 0.66, y + tilt]])
        paths.append((points, int(rng.integers(4, 7))))
    layer = canvas.lines(paths, [255] * 3, blur=0.7)
    canvas.density += np.float32(0.40 * severity) * layer * canvas.lungs[side]


def _effusion(canvas: Canvas, severity: float, rng: np.random.Generator) -> None:
    """Fluid: a bright base whose upper border rises to the wall (meniscus)."""
    sides = SIDES if rng.random() < 0.35 else (_side(rng),)
    for side in sides:
        level = canvas.chest.base[side > 0] + 0.06 - 0.30 * severity * rng.uniform(0.7, 1.1)
        wall = canvas.outer(canvas.y) - canvas.x * np.float32(side)
        surface = level - 0.30 * np.exp(-np.clip(wall, 0, None) / np.float32(0.10))
        fluid = canvas.soft(canvas.y - surface, 0.05) * canvas.lungs[side]
        canvas.density += np.float32(canvas.chest.aeration * 0.95) * fluid


def _infiltration(canvas: Canvas, severity: float, rng: np.random.Generator) -> None:
    """Ill-defined patches in one or both lungs."""
    for side in SIDES if rng.random() < 0.5 else (_side(rng),):
        x, y = _place(canvas, side, rng)
        patches = np.clip(canvas.texture(rng, 14) - 0.2, 0.0, 1.5)
        zone = canvas.disc(x, y, 0.34, 0.40, 0.6)
        canvas.density += np.float32(0.26 * severity) * patches * zone * canvas.lungs[side]


def _ball(canvas: Canvas, radius: float, density: float, rng: np.random.Generator) -> None:
    side = _side(rng)
    x, y = _place(canvas, side, rng)
    ball = canvas.disc(x, y, radius, radius * rng.uniform(0.85, 1.15), 0.18)
    canvas.density += np.float32(density) * ball * np.clip(canvas.lungs[side] + 0.3, 0, 1)


def _mass(canvas: Canvas, severity: float, rng: np.random.Generator) -> None:
    """One dense rounded opacity of more than 3 cm."""
    _ball(canvas, 0.10 + 0.07 * severity, 0.48, rng)


def _nodule(canvas: Canvas, severity: float, rng: np.random.Generator) -> None:
    """One to three rounded opacities below 3 cm."""
    for _ in range(int(rng.integers(1, 4))):
        _ball(canvas, 0.035 + 0.03 * severity, 0.50, rng)


def _lobe(canvas: Canvas, side: int, rng: np.random.Generator) -> Field:
    """Return the mask of an upper or lower zone of one lung."""
    base = canvas.chest.base[side > 0]
    lower = rng.random() < 0.65
    y = base - 0.16 if lower else -0.42
    return canvas.disc(0.42 * side, y, 0.28, 0.24, 0.35) * canvas.lungs[side]


def _bronchogram(canvas: Canvas, side: int, rng: np.random.Generator) -> Field:
    """Return branching lines: air-filled bronchi in an opaque lobe."""
    paths = []
    for angle in rng.uniform(-1.2, 1.2, 5):
        step = np.linspace(0, 0.42, 5)[:, None]
        wobble = rng.normal(0, 0.012, (5, 2))
        paths.append(
            (
                np.array([[0.2 * side, 0.0]])
                + step * [[side * np.cos(angle), np.sin(angle)]]
                + wobble,
                3,
            )
        )
    return canvas.lines(paths, [255] * len(paths), blur=0.5)


def _pneumonia(canvas: Canvas, severity: float, rng: np.random.Generator) -> None:
    """A segmental opacity, patchy, with an indistinct border."""
    side = _side(rng)
    patches = np.clip(0.75 + 0.45 * canvas.texture(rng, 10), 0.1, 1.5)
    canvas.density += np.float32(0.34 * severity) * patches * _lobe(canvas, side, rng)


def _pneumothorax(canvas: Canvas, severity: float, rng: np.random.Generator) -> None:
    """Air without markings over the apex and side, inside it the visceral pleural line."""
    side = _side(rng)
    c = canvas.chest
    here = canvas.x * np.float32(side)
    rim = 0.10 + 0.16 * severity
    high = np.clip((0.35 - canvas.y) / 1.1, 0.0, 1.0)  # widest at the apex, gone at the base
    edge = np.minimum(canvas.outer(canvas.y) - here - rim * (0.35 + high), canvas.y - c.apex - rim)
    free = canvas.soft(-edge, 0.02) * canvas.lungs[side]
    line = np.exp(-((edge / 0.018) ** 2)) * canvas.lungs[side]
    smooth = canvas.blurred(canvas.density, 5.0)
    canvas.density += free * (0.7 * (smooth - canvas.density) - np.float32(0.20))
    canvas.density += np.float32(0.24) * line
    collapsed = canvas.lungs[side] - free
    canvas.density += np.float32(0.10 * severity) * collapsed


def _consolidation(canvas: Canvas, severity: float, rng: np.random.Generator) -> None:
    """A homogeneous lobar opacity with air bronchograms."""
    side = _side(rng)
    lobe = _lobe(canvas, side, rng)
    canvas.density += np.float32(0.30 + 0.20 * severity) * lobe
    canvas.density -= np.float32(0.22) * _bronchogram(canvas, side, rng) * lobe


def _edema(canvas: Canvas, severity: float, rng: np.random.Generator) -> None:
    """Haze about both hila (the bat's wings) and septal lines at the bases."""
    for side in SIDES:
        wing = canvas.disc(0.30 * side, 0.0, 0.34, 0.52, 0.6) * canvas.lungs[side]
        grain = np.clip(1.0 + 0.25 * canvas.texture(rng, 16), 0.3, 1.7)
        canvas.density += np.float32(0.30 * severity) * wing * grain
        lines = []
        for _ in range(7):
            y = canvas.chest.base[side > 0] - rng.uniform(0.0, 0.26)
            lines.append((np.array([[side * 0.62, y], [side * 0.74, y - 0.01]]), 2))
        layer = canvas.lines(lines, [255] * 7)
        canvas.density += np.float32(0.25 * severity) * layer * canvas.lungs[side]


def _emphysema(canvas: Canvas, severity: float, rng: np.random.Generator) -> None:
    """Bullae: dark areas without markings in the upper zones."""
    for side in SIDES:
        x, y = side * rng.uniform(0.32, 0.46), rng.uniform(-0.5, -0.2)
        bulla = canvas.disc(float(x), float(y), 0.18, 0.20, 0.3) * canvas.lungs[side]
        canvas.density -= np.float32(0.13 * severity) * bulla


def _fibrosis(canvas: Canvas, severity: float, rng: np.random.Generator) -> None:
    """A net of fine lines, densest at the bases and the periphery."""
    paths = []
    for _ in range(150):
        side = _side(rng)
        x = side * rng.uniform(0.22, 0.74)
        y = canvas.chest.base[side > 0] - rng.exponential(0.24)
        turn = rng.uniform(0, np.pi, 2)
        bend = 0.04 * np.stack([np.cos(turn), np.sin(turn)], 1).cumsum(axis=0)
        paths.append((np.vstack([[x, y], np.array([x, y]) + bend]), 2))
    layer = canvas.lines(paths, [255] * len(paths), blur=0.35)
    canvas.density += np.float32(0.34 * severity) * layer * (canvas.lungs[-1] + canvas.lungs[1])


def _pleural_thickening(canvas: Canvas, severity: float, rng: np.random.Generator) -> None:
    """A dense rim along the chest wall and a cap over the apex."""
    side = _side(rng)
    wall = canvas.outer(canvas.y) - canvas.x * np.float32(side)
    rim = 0.05 + 0.05 * severity
    uneven = 1.0 + 0.25 * canvas.texture(rng, 9)
    edge = canvas.soft(rim * uneven - wall, 0.03)
    cap = canvas.soft(canvas.chest.apex + 0.10 + 0.06 * severity - canvas.y, 0.04)
    canvas.density += np.float32(0.42) * np.maximum(edge, cap) * canvas.lungs[side]


def _hernia(canvas: Canvas, severity: float, rng: np.random.Generator) -> None:
    """Stomach behind the heart: a round wall with air above a fluid level."""
    x, y = float(rng.uniform(0.0, 0.12)), canvas.chest.base[1] - 0.12
    radius = 0.13 + 0.06 * severity
    inside = canvas.disc(x, y, radius, radius, 0.12)
    shell = canvas.disc(x, y, radius + 0.04, radius + 0.04, 0.1) - inside
    gas = inside * canvas.soft(y - canvas.y, 0.02)
    canvas.density += np.float32(0.20) * shell + np.float32(0.12) * (inside - gas)
    canvas.density -= np.float32(0.38) * gas


def _proportions_only(_canvas: Canvas, _severity: float, _rng: np.random.Generator) -> None:
    """Cardiomegaly is drawn as the chest's own proportion."""


SIGNS: dict[str, Sign] = {
    "Atelectasis": _atelectasis,
    "Cardiomegaly": _proportions_only,
    "Effusion": _effusion,
    "Infiltration": _infiltration,
    "Mass": _mass,
    "Nodule": _nodule,
    "Pneumonia": _pneumonia,
    "Pneumothorax": _pneumothorax,
    "Consolidation": _consolidation,
    "Edema": _edema,
    "Emphysema": _emphysema,
    "Fibrosis": _fibrosis,
    "Pleural_Thickening": _pleural_thickening,
    "Hernia": _hernia,
}
