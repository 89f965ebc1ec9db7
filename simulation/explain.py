"""One film explained: each asked finding's Grad-CAM, the rollout, and a contact sheet of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from client.data.decode import decode
from client.data.images import Grey, read_bytes
from client.data.pipeline import process
from client.learners.determinism import deterministic
from client.learners.explain import Map, enlarge, grad_cam, peak, rollout_maps
from client.learners.inputs import standardise
from client.learners.platt import Line, apply_lines
from client.learners.target import Target
from ledger.errors import DataError
from ledger.files import atomic_write
from simulation.predict import Calibrated, FinalModel, scores_of

SHOWN = 512
"""Most pixels a side of a film on a sheet."""
_SUFFIX = ".explained.png"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One finding of one film: its probability, and the cells (h, w) of its Grad-CAM."""

    finding: str
    probability: float
    calibrated: bool
    cells: Map


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One film: as it is, its findings in the order asked for, its rollout if there is one."""

    film: Grey
    parts: tuple[Part, ...]
    rollout: Map | None

    def to_record(self) -> dict[str, object]:
        """Return JSON values; peaks are (x, y) in shares of width and height, from the top left."""
        return {
            "findings": [
                {
                    "finding": part.finding,
                    "probability": part.probability,
                    "calibrated": part.calibrated,
                    "peak": _point(part.cells),
                    "grid": list(part.cells.shape),
                }
                for part in self.parts
            ],
            "rollout": None
            if self.rollout is None
            else {
                "peak": _point(self.rollout),
                "grid": list(self.rollout.shape),
                "on_patches": float(self.rollout.sum()),
            },
        }


def _point(cells: Map) -> list[float] | None:
    found = peak(cells)
    return None if found is None else list(found)


def explain_film(
    path: Path,
    final: FinalModel,
    target: Target,
    kept: Calibrated | None,
    *,
    asked: Sequence[str] = (),
    top: int = 3,
    threads: int = 1,
) -> Explanation:
    """Explain what a model says of one film.

    Args:
        path: PNG, JPEG or DICOM.
        final: the model.
        target: where to look into its network.
        kept: its calibration.
        asked: findings; none for the ``top`` most probable.
        top: how many then.
        threads: torch threads.

    Raises:
        DataError: the film cannot be read.
    """
    data = read_bytes(path)
    pixels = process(data, path.name, final.films)[None, None]
    names = final.chosen.findings
    lines = kept.lines if kept else tuple(Line() for _ in names)
    said = apply_lines(scores_of(final.learner, final.module, pixels, threads), lines)[0]
    best = np.argsort(-said, kind="stable")[:top].tolist()
    chosen = [names.index(name) for name in asked] or best
    images = standardise(torch.from_numpy(pixels))
    with deterministic(seed=0, threads=threads):
        maps = grad_cam(final.learner, final.module, target, images, chosen)[0]
        through = rollout_maps(final.module, target, images)
    return Explanation(
        film=decode(data, path.name),
        parts=tuple(
            Part(
                finding=names[place],
                probability=float(said[place]),
                calibrated=bool(kept and kept.lines[place].fitted),
                cells=cells,
            )
            for place, cells in zip(chosen, maps, strict=True)
        ),
        rollout=None if through is None else through[0],
    )


def without_rollout(target: Target) -> str:
    """Return the sentence that says why there is no rollout; empty where there is one."""
    if target.attention and target.grid is not None:
        return ""
    why = "has attention over no grid of patches" if target.attention else "has no attention"
    return f"No attention rollout: this network {why}."


def write_sheet(path: Path, explanation: Explanation) -> None:
    """Write a contact sheet as PNG: the film, then every map over it, its peak marked.

    Each map is drawn on a scale of its own (strongest where it is highest), so colours compare
    within a panel, not between panels. No identifier is written on it.

    Raises:
        OutputError: the file cannot be written.
    """
    panels = [(f"{part.finding} {part.probability:.3f}", part.cells) for part in explanation.parts]
    if explanation.rollout is not None:
        panels.append(("attention rollout", explanation.rollout))
    film = _reduced(explanation.film)
    with mpl.rc_context({"font.size": 8}):
        width = 2.6 * (1 + len(panels))
        figure = Figure(figsize=(width, 2.6 * film.shape[0] / film.shape[1] + 0.4), dpi=120)
        figure.set_layout_engine("constrained")
        axes = figure.subplots(1, 1 + len(panels), squeeze=False)[0]
        for axis, (title, cells) in zip(axes, [("film", None), *panels], strict=True):
            axis.set_axis_off()
            axis.imshow(film, cmap="gray", vmin=0, vmax=255)
            axis.set_title(title)
            if cells is not None:
                _overlay(axis, film, cells)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    atomic_write(path, buffer.getvalue())


def _overlay(axis: Axes, film: Grey, cells: Map) -> None:
    """Draw a map over a film: see-through where it is low."""
    found = peak(cells)
    if found is None:
        axis.set_title(f"{axis.get_title()}: nothing speaks for it")
        return
    height, width = film.shape
    wide = enlarge(cells, max(film.shape))
    low = float(wide.min()) if wide.min() < wide.max() else 0.0
    strength = (wide - low) / (float(wide.max()) - low)
    frame = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(strength, cmap="inferno", alpha=0.6 * strength, extent=frame, vmin=0, vmax=1)
    axis.plot(found[0] * width - 0.5, found[1] * height - 0.5, "c+", markersize=9)


def _reduced(film: Grey) -> Grey:
    """Return every n-th pixel of a film that is larger than a sheet shows."""
    step = -(-max(film.shape) // SHOWN)
    return film[::step, ::step]


def sheet_names(films: Sequence[str]) -> list[str]:
    """Return a file name for each film's sheet, told apart where films are called alike.

    Raises:
        DataError: two films still share one.
    """
    plain = ["_".join(Path(film).with_suffix("").parts) for film in films]
    whole = ["_".join(Path(film).parts) for film in films]
    names = [
        (full if plain.count(short) > 1 else short) + _SUFFIX
        for short, full in zip(plain, whole, strict=True)
    ]
    if len(set(names)) < len(names):
        raise DataError("two films would share a sheet; explain their folders one by one")
    return names
