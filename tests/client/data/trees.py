"""Tiny trees in the NIH layout, to break one thing at a time in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from client.data.records import FINDINGS, Cohort, Record

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
    "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


def row(
    name: str,
    patient: int,
    findings: str = "No Finding",
    age: str = "50",
    sex: str = "F",
    view: str = "PA",
) -> str:
    return f"{name},{findings},0,{patient},{age},{sex},{view},2500,2048,0.168,0.168"


def write_image(path: Path, seed: int, size: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_tree(
    root: Path,
    rows: Iterable[str],
    *,
    train: Iterable[str] = (),
    test: Iterable[str] = (),
    images: bool = True,
) -> Path:
    """Write rows as the table, an image for each over two folders, and both lists."""
    rows = list(rows)
    root.mkdir(parents=True, exist_ok=True)
    text = "\n".join([HEADER, *rows]) + "\n"
    (root / "Data_Entry_2017_v2020.csv").write_text(text, encoding="utf-8")
    for name, names in (("train_val_list.txt", train), ("test_list.txt", test)):
        if names:
            (root / name).write_text("\n".join(names) + "\n", encoding="utf-8")
    if images:
        for number, line in enumerate(rows):
            folder = root / f"images_{1 + number % 2:03d}" / "images"
            write_image(folder / line.split(",")[0], number)
    return root


def cohort_of(rows: Iterable[tuple[str, tuple[int, ...], str]]) -> Cohort:
    """Make a cohort without files from (patient, labels over 14 findings, view)."""
    records = tuple(
        Record(
            image=Path(f"{number}.png"),
            image_id=f"{number}.png",
            patient=patient,
            labels=labels,
            view="AP" if view == "AP" else "PA",
            age=40 + number % 40,
            sex="M" if number % 2 else "F",
            source="made",
        )
        for number, (patient, labels, view) in enumerate(rows)
    )
    return Cohort(records=records, vocabulary=FINDINGS, source="made")
