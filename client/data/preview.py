"""A contact sheet: films before and after preprocessing, with what is said of them."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from client.data.decode import decode
from client.data.images import place, read_bytes
from client.data.pipeline import Preprocessing, process
from client.data.records import PRESENT, UNCERTAIN, Cohort, Record
from ledger.errors import DataError, OutputError

COLUMNS = 4
MAX_FILMS = 60


def contact_sheet(cohort: Cohort, plan: Preprocessing, count: int, out: Path) -> int:
    """Write a PNG of pairs (the film as it is, the film as a learner sees it).

    Args:
        cohort: taken evenly over its records.
        plan: the preprocessing shown.
        count: pairs, 1 to ``MAX_FILMS``; fewer where the cohort is smaller.
        out: the PNG to write.

    Returns:
        how many pairs are on the sheet.

    Raises:
        DataError: nothing to show, or an image is unreadable.
        OutputError: the file cannot be written.
    """
    count = min(max(count, 1), MAX_FILMS, len(cohort))
    if not count:
        raise DataError("there is no image to preview")
    chosen = [cohort.records[i * len(cohort) // count] for i in range(count)]
    rows = -(-count // COLUMNS)
    with mpl.rc_context({"font.size": 7}):
        figure = Figure(figsize=(4.2 * COLUMNS, 2.6 * rows), dpi=100, layout="constrained")
        axes = figure.subplots(rows, 2 * COLUMNS, squeeze=False).reshape(-1)
        for axis in axes:
            axis.set_axis_off()
        for pair, record in enumerate(chosen):
            data, name = read_bytes(record.image), place(record.image)
            before, after = decode(data, name), process(data, name, plan)
            for axis, film in zip(axes[2 * pair : 2 * pair + 2], (before, after), strict=True):
                axis.imshow(film, cmap="gray", vmin=0, vmax=255)
            axes[2 * pair].set_title(_caption(record, cohort.vocabulary), loc="left")
            axes[2 * pair + 1].set_title(f"{before.shape[1]} x {before.shape[0]} to {plan.size}")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(out, format="png")
        except OSError as error:
            raise OutputError(f"{out} cannot be written ({error.strerror})") from None
    return count


def _caption(record: Record, vocabulary: tuple[str, ...]) -> str:
    """Return view and findings; no identifier, so that a sheet may be shown around."""
    marks = {PRESENT: "", UNCERTAIN: "?"}
    said = [
        name + marks[label]
        for name, label in zip(vocabulary, record.labels, strict=True)
        if label in marks
    ]
    lines = [f"{record.view or 'view unknown'}: {said[0] if said else 'no finding stated'}"]
    lines += [", ".join(said[i : i + 2]) for i in range(1, min(len(said), 5), 2)]
    return "\n".join(lines)
