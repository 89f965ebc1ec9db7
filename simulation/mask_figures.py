"""How well the mask finds what it should, and how much it leaves alone: figures, by a command.

    python -m simulation.mask_figures [--films 60] [--real NIH_FOLDER] [--write docs/data.md]

On phantoms the truth is drawn: lungs, heart, signs of findings, devices, burnt-in letters. On
real radiographs nothing but what is planted on them is known: lines of text (as hospitals burn
them in) and a curved wire. Text counts where it can be read, that is where its pixels differ from
the film's by 30 grey levels on average.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from client.data.boxes import load_boxes
from client.data.images import Grey
from client.data.masking import find_abdomen, find_devices, find_text
from client.data.nih import load_nih
from client.data.pipeline import Preprocessing
from client.data.preprocess import process_all
from client.data.records import Cohort
from ledger.console import out
from simulation.data_figures import replace_between
from simulation.phantom_film import Film, draw_film
from simulation.phantom_patients import patient_visits

SIZE = 512
LEGIBLE = 30
LEAST_NATIVE = 100
"""Real films of fewer pixels a side show too little to plant things on."""
WIRE = 60
"""Grey levels a planted wire stands over the film."""
BEGIN, END = "<!-- mask figures -->", "<!-- end of mask figures -->"
LINES = ("MOREAU ANNE", "1951-03-02", "PORTABLE", "ERECT", "ID 4471902", "SEMI-UPRIGHT 14:32", "PA")
Truth = NDArray[np.bool_]
Table = dict[str, list[float]]


def plant_text(film: Grey, rng: np.random.Generator) -> tuple[Grey, Truth]:
    """Return the film with a line of text at its upper or lower border, and where it lies.

    Three in four are white (grey level 200 to 255), the rest black on a white label.
    """
    side, text = film.shape[0], str(rng.choice(LINES))
    scale, thick = side / 512 * rng.uniform(0.4, 0.9), max(1, side * int(rng.integers(1, 3)) // 512)
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    x = int(rng.uniform(0.01, max(0.02, 0.97 - width / side)) * side)
    share = rng.uniform(0.02, 0.10) if rng.random() < 0.5 else rng.uniform(0.90, 0.97)
    y = min(max(int(share * side), height + 2), side - base - 2)
    marked, truth = film.copy(), np.zeros_like(film)
    value = int(rng.choice([200, 230, 255]))
    if rng.random() < 0.25:
        cv2.rectangle(marked, (x - 4, y - height - 4), (x + width + 4, y + base + 2), 255, -1)
        value = 0
    style = (cv2.FONT_HERSHEY_SIMPLEX, scale)
    cv2.putText(marked, text, (x, y), *style, value, thick, cv2.LINE_AA)
    cv2.putText(truth, text, (x, y), *style, 255, thick, cv2.LINE_AA)
    return marked, truth > 128


def plant_wire(film: Grey, rng: np.random.Generator) -> tuple[Grey, Truth]:
    """Return the film with a curved bright wire, and where it lies."""
    ends = rng.uniform(0.2, 0.8, (3, 2)) * film.shape[0]
    t = np.linspace(0, 1, 40)[:, None]
    curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t**2 * ends[2]
    truth = np.zeros_like(film)
    cv2.polylines(truth, [curve.astype(np.int32)], isClosed=False, color=255, thickness=2)
    wired = np.where(truth > 0, np.minimum(film.astype(np.int32) + WIRE, 255), film)
    return wired.astype(np.uint8), truth > 0


def measure_phantoms(films: int, seed: int = 5) -> Table:
    """Return shares found and kept, a list of one value a film for each row."""
    table: Table = defaultdict(list)
    for number, film in enumerate(islice(_phantoms(seed), films)):
        text, devices = find_text(film.pixels) > 0, find_devices(film.pixels) > 0
        masked = text | devices | (find_abdomen(film.pixels) > 0)
        masked &= ~_near(film.devices)  # what lies over a lung and is found is no loss
        for name, where in (("lungs", film.lungs), ("heart", film.heart), ("signs", _seen(film))):
            if where.any():
                table[f"{name} kept"].append(1 - masked[where].mean())
        table["side markers found"].append((text | devices)[film.marks].mean())
        if film.devices.any():
            table["faint leads, lines and tubes found"].append(devices[film.devices].mean())
        _planted(table, film.pixels, np.random.default_rng([seed, number]))
    return dict(table)


def measure_real(root: Path, films: int, seed: int = 5) -> Table:
    """Return the same for radiographs of an NIH tree, enlarged to 512 pixels where they are less.

    Where the tree has the release's boxes, the share of each box that is kept is measured, too.
    """
    cohort, boxes = load_nih(root), load_boxes(root)
    fine = [i for i, r in enumerate(cohort.records) if native_side(r.image) >= LEAST_NATIVE]
    table: Table = defaultdict(list)
    centre = np.s_[int(0.15 * SIZE) : int(0.70 * SIZE), int(0.2 * SIZE) : int(0.8 * SIZE)]
    rng = np.random.default_rng(seed)
    for number, film in enumerate(_films(cohort, fine, films, rng)):
        masked = (find_text(film) | find_devices(film) | find_abdomen(film)) > 0
        table["middle of the film kept"].append(1 - masked[centre].mean())
        table["rows cut below the lungs"].append((find_abdomen(film) > 0).mean())
        _planted(table, film, np.random.default_rng([seed, number]))
    drawn = [i for i in fine if cohort.records[i].image_id in boxes]
    for i in drawn[: films * 4]:
        film = next(_films(cohort, [i], 1, rng))
        masked = (find_text(film) | find_devices(film) | find_abdomen(film)) > 0
        for box in boxes[cohort.records[i].image_id]:
            top, left = int(box.top * SIZE), int(box.left * SIZE)
            bottom, right = int((box.top + box.height) * SIZE), int((box.left + box.width) * SIZE)
            inside = masked[top : bottom + 1, left : right + 1]
            table["radiologists' boxes kept"].append(1 - inside.mean())
    return dict(table)


def native_side(path: Path) -> int:
    """Return the shorter side that a PNG declares; 0 for any other file."""
    with path.open("rb") as stream:
        head = stream.read(24)
    if not head.startswith(b"\x89PNG"):
        return 0
    return min(int.from_bytes(head[16:20]), int.from_bytes(head[20:24]))


def _films(cohort: Cohort, rows: list[int], count: int, rng: np.random.Generator) -> Iterator[Grey]:
    chosen = np.sort(rng.choice(rows, size=min(count, len(rows)), replace=False))
    plan = Preprocessing(size=SIZE, clahe="off", blur="off", mask="off")
    for film, _digest in process_all(cohort.select(chosen), plan):
        yield film


def document(tables: dict[str, Table]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| films | what | mean | worst | films it is over |", "|---|---|--:|--:|--:|"]
    for name, table in tables.items():
        for row, values in sorted(table.items()):
            worst = min(values)
            lines.append(
                f"| {name} | {row} | {np.mean(values):.3f} | {worst:.3f} | {len(values)} |"
            )
    return "\n".join(lines)


def _planted(table: Table, film: Grey, rng: np.random.Generator) -> None:
    marked, truth = plant_text(film, rng)
    if np.abs(marked.astype(np.int32) - film)[truth].mean() >= LEGIBLE:
        found = (find_text(marked) | find_devices(marked))[truth] > 0
        table["planted text found"].append(found.mean())
    wired, truth = plant_wire(film, rng)
    table["planted bright wire found"].append((find_devices(wired)[truth] > 0).mean())


def _phantoms(seed: int) -> Iterator[Film]:
    patient = 0
    while True:
        patient += 1
        for visit, rng in patient_visits(patient, seed):
            yield draw_film(visit, SIZE, rng)


def _seen(film: Film) -> Truth:
    return film.signs & (film.lungs | film.heart)


def _near(where: Truth) -> Truth:
    grown = cv2.dilate(where.astype(np.uint8), np.ones((9, 9), dtype=np.uint8))
    return np.asarray(grown > 0)


def main() -> None:
    """Print the figures, or put them between the markers of a document."""
    parser = argparse.ArgumentParser(prog="simulation.mask_figures", description=__doc__)
    parser.add_argument("--films", type=int, default=60)
    parser.add_argument("--real", type=Path, help="an NIH tree")
    parser.add_argument("--write", type=Path, help="a document with the two markers")
    asked = parser.parse_args()
    tables = {"phantoms, 512 px": measure_phantoms(asked.films)}
    if asked.real:
        tables["real, enlarged to 512 px"] = measure_real(asked.real, asked.films)
    text = document(tables)
    out.print(text, markup=False, soft_wrap=True)
    if asked.write:
        replace_between(asked.write, BEGIN, END, text)


if __name__ == "__main__":
    main()
