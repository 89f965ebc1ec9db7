"""Procedural chest radiographs in the layout of real releases: data to try everything on.

Phantoms are drawn, not learnt and not taken from anyone: they may be shared freely and hold no
person's data. They are for demonstrations and tests; nothing measured on them is a clinical
result. The same seed gives the same bytes with the same library versions, and patient 7 is the
same patient whether 10 or 1,000 are asked for.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from client.data.draft import new_folder
from client.data.records import FINDINGS
from ledger.errors import ConfigError
from simulation.phantom_film import MAX_SIZE, MIN_SIZE, render
from simulation.phantom_patients import Visit, held_patients, patient_visits

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
"""The release's own header, whose unquoted brackets split into two columns each."""

LAYOUTS = ("nih", "chexpert", "dicom")

FOLDER_IMAGES = 5000
"""Images in one images_0NN folder, about as many as the release holds."""


@dataclass(frozen=True, kw_only=True)
class PhantomTree:
    """What was written: the folder, and how many patients and images it holds."""

    root: Path
    patients: int
    images: int


def write_phantoms(
    out: Path,
    patients: int,
    seed: int,
    *,
    size: int = 128,
    layout: str = "nih",
    test_share: float = 0.2,
    progress: Callable[[int, int], None] | None = None,
) -> PhantomTree:
    """Write a tree in a release's layout, whole or not at all.

    Args:
        out: folder to make; it may exist if it is empty.
        patients: 2 to 99,999.
        seed: 0 or more; fixes every byte.
        size: side of the images in pixels, 32 to 2048.
        layout: "nih", "chexpert" or "dicom".
        test_share: share of the patients in test_list.txt, 0 to below 1.
        progress: called with (patients done, patients).

    Raises:
        ConfigError: an argument is out of range.
        OutputError: ``out`` is not empty or cannot be written.
    """
    if not 2 <= patients <= 99_999:
        raise ConfigError(f"phantoms need 2 to 99,999 patients, not {patients}")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ConfigError(f"the phantoms' size must be {MIN_SIZE} to {MAX_SIZE}, not {size}")
    if seed < 0 or not 0.0 <= test_share < 1.0:
        raise ConfigError("the seed must be 0 or more and the test share within [0, 1)")
    if layout not in LAYOUTS:
        raise ConfigError(f"unknown layout {layout!r}: use {', '.join(LAYOUTS)}")

    with new_folder(out) as root:
        if layout == "nih":
            images = _write_nih(root, patients, seed, size, test_share, progress)
        else:
            # pydicom takes a while to import; the default layout never needs it
            from simulation.phantom_formats import write_chexpert, write_dicom

            if layout == "chexpert":
                images = write_chexpert(root, patients, seed, size, test_share, progress)
            else:
                images = write_dicom(root, patients, seed, size, progress)
    return PhantomTree(root=out, patients=patients, images=images)


def encode_png(pixels: np.ndarray) -> bytes:
    """Return the PNG file of (H, W) uint8 pixels; the same bytes for the same pixels."""
    _ok, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    return bytes(data)


def _write_nih(
    root: Path,
    patients: int,
    seed: int,
    size: int,
    test_share: float,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Write the tree and return how many images it holds."""
    order = np.random.default_rng([seed, 0]).permutation(patients) + 1
    held = held_patients(patients, test_share)
    test = {int(patient) for patient in order[:held]}
    lists: dict[str, list[str]] = {"train_val_list.txt": [], "test_list.txt": []}
    rows: list[list[object]] = []
    for patient in range(1, patients + 1):
        for visit, rng in patient_visits(patient, seed):
            name = f"{patient:08d}_{visit.follow_up:03d}.png"
            folder = root / f"images_{1 + len(rows) // FOLDER_IMAGES:03d}" / "images"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(encode_png(render(visit, size, rng)))
            rows.append(_nih_row(name, visit, size))
            lists["test_list.txt" if patient in test else "train_val_list.txt"].append(name)
        if progress is not None:
            progress(patient, patients)
    with (root / "Data_Entry_2017_v2020.csv").open("w", encoding="utf-8", newline="") as handle:
        handle.write(NIH_HEADER + "\n")
        csv.writer(handle, lineterminator="\n").writerows(rows)
    for file, names in lists.items():
        (root / file).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return len(rows)


def _nih_row(name: str, visit: Visit, size: int) -> list[object]:
    present = "|".join(finding for finding in FINDINGS if finding in visit.severity)
    return [
        name,
        present or "No Finding",
        visit.follow_up,
        visit.patient,
        visit.age,
        visit.sex,
        visit.view,
        size,
        size,
        round(350 / size, 3),  # a 35 cm detector: millimetres a pixel
        round(350 / size, 3),
    ]
