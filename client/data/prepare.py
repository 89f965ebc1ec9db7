"""Make a prepared set of any source: checked, preprocessed, de-identified, with a digest.

    OUT/table.csv              image, patient, age, sex, view, follow_up, one column a finding
    OUT/images/xx/<hash>.png   (size, size) 8-bit grey; its head says it has been preprocessed
    OUT/prepared.json          what was done, the counts and the digests; names nobody

The folder is a table source again: every command reads it. It appears whole or not at all.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from client.data.check import Progress
from client.data.deidentify import SiteKey, deidentify
from client.data.draft import new_folder
from client.data.images import Grey
from client.data.mapping import FIELDS, PREPARED
from client.data.pipeline import PROCESSED, Preprocessing
from client.data.preprocess import process_all
from client.data.records import PRESENT, Cohort, Record
from ledger.canonical import canonical_json
from ledger.files import atomic_write

FORMAT = "thoracle/prepared/v1"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared set: the cohort as its folder gives it, and what prepared.json says."""

    root: Path
    cohort: Cohort
    about: dict[str, object]


def prepare(
    cohort: Cohort,
    out: Path,
    plan: Preprocessing,
    key: SiteKey,
    progress: Progress | None = None,
) -> Prepared:
    """Write a prepared set.

    Args:
        cohort: the source's records.
        out: folder to make; it may exist if it is empty.
        plan: the preprocessing.
        key: the site's key, under which identifiers are hashed.
        progress: called with (done, total).

    Raises:
        DataError: an image is missing or unreadable (named); nothing is written.
        OutputError: ``out`` is not empty or cannot be written.
    """
    with new_folder(out) as draft:
        about, records = _fill(draft, cohort, plan, key, progress)
    placed = tuple(replace(r, image=out / r.image_id) for r in records)
    made = Cohort(records=placed, vocabulary=cohort.vocabulary, source=PREPARED.source)
    return Prepared(root=out, cohort=made, about=about)


def _fill(
    draft: Path, cohort: Cohort, plan: Preprocessing, key: SiteKey, progress: Progress | None
) -> tuple[dict[str, object], list[Record]]:
    hashed = deidentify(cohort, key)
    records: list[Record] = []
    files = sha256()
    pixels = sha256()
    films = process_all(cohort, plan, progress)
    for record, (film, digest) in zip(hashed.records, films, strict=True):
        name = f"images/{record.image_id[:2]}/{record.image_id}.png"
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).write_bytes(encode_processed(film, plan))
        records.append(replace(record, image_id=name, source=PREPARED.source))
        files.update(digest)
        pixels.update(film.tobytes())
    _write_table(draft / PREPARED.table, records, cohort.vocabulary)
    made = Cohort(records=tuple(records), vocabulary=cohort.vocabulary, source=PREPARED.source)
    about: dict[str, object] = {
        "format": FORMAT,
        "source": cohort.source,
        "images": len(cohort),
        "patients": len(cohort.patients()),
        "present": {
            finding: int((made.label_matrix()[:, i] == PRESENT).sum())
            for i, finding in enumerate(cohort.vocabulary)
        },
        "preprocessing": plan.config(),
        "preprocessing_digest": plan.digest().hex(),
        "cohort_digest": made.digest().hex(),
        "source_files_digest": files.hexdigest(),
        "pixels_digest": pixels.hexdigest(),
    }
    atomic_write(draft / "prepared.json", canonical_json(about) + b"\n")
    return about, records


def encode_processed(film: Grey, plan: Preprocessing) -> bytes:
    """Return the PNG of a preprocessed film; its first chunk says so, so it is never redone."""
    keyword, text = PROCESSED.split(b"\0")
    note = PngInfo()
    note.add_text(keyword.decode(), f"{text.decode()} {plan.digest().hex()}")
    buffer = io.BytesIO()
    Image.fromarray(film).save(buffer, format="PNG", pnginfo=note)
    return buffer.getvalue()


def _write_table(path: Path, records: list[Record], vocabulary: tuple[str, ...]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([*FIELDS, *vocabulary])
        for r in records:
            age = "" if r.age is None else r.age
            personal = [r.image_id, r.patient, age, r.sex or "", r.view or "", r.follow_up]
            writer.writerow([*personal, *r.labels])
