"""Who holds what: the figures of a partition, and one picture of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from client.data.records import PRESENT, UNKNOWN, Cohort
from ledger.errors import OutputError
from simulation.partition import Indices


def describe(cohort: Cohort, parts: Sequence[Indices]) -> list[dict[str, object]]:
    """Return for each hospital its counts, mean age, shares and prevalences.

    Returns:
        one dict a hospital: ``hospital`` (from 1), ``images``, ``patients``, ``ap_share``,
        ``male_share`` and ``mean_age`` (None where no record says), and ``present`` (finding ->
        images that show it).
    """
    rows: list[dict[str, object]] = []
    for number, part in enumerate(parts, start=1):
        own = cohort.select(part)
        labels = own.label_matrix()
        ages = [r.age for r in own.records if r.age is not None]
        rows.append(
            {
                "hospital": number,
                "images": len(own),
                "patients": len(own.patients()),
                "ap_share": _share([r.view for r in own.records], "AP", {"AP", "PA"}),
                "male_share": _share([r.sex for r in own.records], "M", {"M", "F"}),
                "mean_age": round(float(np.mean(ages)), 1) if ages else None,
                "present": {
                    finding: int((labels[:, i] == PRESENT).sum())
                    for i, finding in enumerate(cohort.vocabulary)
                },
            }
        )
    return rows


def draw_partition(cohort: Cohort, parts: Sequence[Indices], title: str, out: Path) -> None:
    """Write a PNG: sizes, views, ages and the prevalence of each finding by hospital.

    Raises:
        OutputError: the file cannot be written.
    """
    names = [f"hospital {number}" for number in range(1, len(parts) + 1)]
    colours = mpl.colormaps["viridis"](np.linspace(0.1, 0.85, len(parts)))
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11, 6.5), dpi=110, layout="constrained")
        figure.suptitle(title)
        grid = figure.add_gridspec(2, 3, height_ratios=(1, 1.5))
        top = [figure.add_subplot(grid[0, place]) for place in range(3)]
        _sizes(top[0], cohort, parts, names)
        _views(top[1], cohort, parts, names)
        _ages(top[2], cohort, parts, names, colours)
        _findings(figure.add_subplot(grid[1, :]), cohort, parts, names, colours)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(out, format="png")
        except OSError as error:
            raise OutputError(f"{out} cannot be written ({error.strerror})") from None


def _share(values: Sequence[str | None], wanted: str, known: set[str]) -> float | None:
    told = [value for value in values if value in known]
    return round(sum(value == wanted for value in told) / len(told), 3) if told else None


def _sizes(axes: Axes, cohort: Cohort, parts: Sequence[Indices], names: list[str]) -> None:
    images = [len(part) for part in parts]
    patients = [len(cohort.select(part).patients()) for part in parts]
    place = np.arange(len(parts))
    axes.barh(place - 0.2, images, 0.4, label="images", color="#31688e")
    axes.barh(place + 0.2, patients, 0.4, label="patients", color="#90d743")
    axes.set_yticks(place, names)
    axes.invert_yaxis()
    axes.legend(frameon=False)
    axes.set_title("size")


def _views(axes: Axes, cohort: Cohort, parts: Sequence[Indices], names: list[str]) -> None:
    shown = sorted({r.view or "unknown" for r in cohort.records})
    left = np.zeros(len(parts))
    for view in shown:
        own = [[r.view or "unknown" for r in cohort.select(part).records] for part in parts]
        share = np.array([np.mean([v == view for v in views]) for views in own])
        axes.barh(np.arange(len(parts)), share, left=left, label=view)
        left += share
    axes.set_yticks(np.arange(len(parts)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.legend(frameon=False, ncols=len(shown), loc="upper center", bbox_to_anchor=(0.5, -0.08))
    axes.set_title("share of views")


def _ages(
    axes: Axes,
    cohort: Cohort,
    parts: Sequence[Indices],
    names: list[str],
    colours: NDArray[np.floating],
) -> None:
    bins = np.arange(0, 101, 10)
    for part, name, colour in zip(parts, names, colours, strict=True):
        ages = [r.age for r in cohort.select(part).records if r.age is not None]
        if ages:
            heights, _ = np.histogram(ages, bins)
            axes.plot(bins[:-1] + 5, heights / len(ages), label=name, color=colour)
    axes.set_ylim(bottom=0)
    axes.set_title("age in years")
    axes.legend(frameon=False)


def _findings(
    axes: Axes,
    cohort: Cohort,
    parts: Sequence[Indices],
    names: list[str],
    colours: NDArray[np.floating],
) -> None:
    place = np.arange(len(cohort.vocabulary))
    width = 0.8 / len(parts)
    labels = cohort.label_matrix()
    for number, (part, name, colour) in enumerate(zip(parts, names, colours, strict=True)):
        own = labels[part]
        known = np.maximum((own != UNKNOWN).sum(axis=0), 1)
        share = (own == PRESENT).sum(axis=0) / known
        axes.bar(place + (number + 0.5) * width - 0.4, share, width, label=name, color=colour)
    axes.set_xticks(
        place, [n.replace("_", " ") for n in cohort.vocabulary], rotation=30, ha="right"
    )
    axes.set_title("share of images that show each finding, of those whose label is known")
    axes.legend(frameon=False)
