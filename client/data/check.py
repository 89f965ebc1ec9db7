"""What is wrong with a data folder: every problem named, none dropped in silence.

Loaders gather the same problems as ``data check`` and refuse to load while one of them is an
error; notes are facts a person should know that stop nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

from client.data.decode import decode
from client.data.images import conversion, place, read_bytes
from client.data.records import ABSENT, PRESENT, UNCERTAIN, UNKNOWN, Cohort, Record
from ledger.errors import DataError

Progress = Callable[[int, int], None]
"""Called with (done, total) as long work goes on."""

_BLOCK = 256
"""Images in flight at once."""

NAMED = 20
"""How many problems of one kind a report names; the rest are counted."""


class Kind(StrEnum):
    """The kinds of problem; those in ``NOTES`` stop nothing."""

    BAD_ROW = "row cannot be used"
    UNKNOWN_FINDING = "finding not in the vocabulary"
    DUPLICATE_ROW = "image listed twice in the table"
    MISSING = "image file missing"
    UNREADABLE = "image file unreadable"
    BLANK = "image is one grey value"
    EXTRA = "image file without a row"
    DUPLICATE_FILE = "image file in two folders"
    OVERLAP = "patient in both lists"
    LEAK = "same image bytes in both lists"
    UNLISTED = "image in neither list"
    LISTED_UNKNOWN = "listed image without a row"
    IMPLAUSIBLE = "implausible value taken as unknown"
    SAME_BYTES = "two images with the same bytes"
    SKIPPED = "left out by a stated policy"
    CONVERTED = "image converted to 8-bit grey by the stated policy"
    BURNT_IN = "header says that the pixels name the patient"


NOTES = frozenset({Kind.IMPLAUSIBLE, Kind.SAME_BYTES, Kind.SKIPPED, Kind.CONVERTED, Kind.BURNT_IN})


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing wrong: its kind, what it concerns (a file, row or patient) and the detail."""

    kind: Kind
    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What ``data check`` found.

    Attributes:
        root: the folder as given.
        source: the kind of source.
        patients, images: counts over the rows that can be used.
        labels: finding -> counts of present, absent, unknown, uncertain.
        views, sexes: counts by value ("unknown" where the source does not say).
        subsets: list name -> (images, patients), where the source has lists.
        digest: the cohort's digest, hex.
        problems: everything found, errors and notes.
    """

    root: str
    source: str
    patients: int
    images: int
    labels: dict[str, dict[str, int]]
    views: dict[str, int]
    sexes: dict[str, int]
    subsets: dict[str, tuple[int, int]] = field(default_factory=dict)
    digest: str = ""
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that are not mere notes."""
        return tuple(p for p in self.problems if p.kind not in NOTES)

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        return not self.errors

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; each kind names at most ``NAMED`` and counts all."""
        return {
            "root": self.root,
            "source": self.source,
            "ok": self.ok,
            "patients": self.patients,
            "images": self.images,
            "labels": self.labels,
            "views": self.views,
            "sexes": self.sexes,
            "subsets": {
                name: {"images": images, "patients": patients}
                for name, (images, patients) in self.subsets.items()
            },
            "digest": self.digest,
            "problems": [
                {
                    "kind": str(kind),
                    "note": kind in NOTES,
                    "count": len(found),
                    "named": [{"name": p.name, "detail": p.detail} for p in found[:NAMED]],
                }
                for kind, found in by_kind(self.problems).items()
            ],
        }


def by_kind(problems: Iterable[Problem]) -> dict[Kind, list[Problem]]:
    """Group problems by kind, in the order of ``Kind``."""
    groups: dict[Kind, list[Problem]] = {kind: [] for kind in Kind}
    for problem in problems:
        groups[problem.kind].append(problem)
    return {kind: found for kind, found in groups.items() if found}


def refuse(problems: Iterable[Problem], where: str) -> None:
    """Raise one sentence that names the first few errors and counts them all.

    Raises:
        DataError: at least one problem is not a note.
    """
    errors = [p for p in problems if p.kind not in NOTES]
    if errors:
        named = "; ".join(str(p) for p in errors[:3])
        more = f"; and {len(errors) - 3:,} more (thoracle data check names them)"
        raise DataError(f"{where}: {named}{more if len(errors) > 3 else ''}")


def check_images(
    records: Sequence[Record], progress: Progress | None = None, workers: int = 2
) -> tuple[list[Problem], dict[str, bytes]]:
    """Read and decode every image in bounded memory.

    Returns:
        the problems, and image_id -> SHA-256 of the file for each image that decodes.
    """
    problems: list[Problem] = []
    digests: dict[str, bytes] = {}
    first: dict[bytes, str] = {}
    with ThreadPoolExecutor(workers) as pool:
        for done, (record, outcome) in enumerate(_inspected(records, pool), start=1):
            if isinstance(outcome, Problem):
                problems.append(outcome)
            else:
                digest, converted = outcome
                if converted:
                    problems.append(
                        Problem(kind=Kind.CONVERTED, name=record.image_id, detail=converted)
                    )
                digests[record.image_id] = digest
                twin = first.setdefault(digest, record.image_id)
                if twin != record.image_id:
                    problems.append(
                        Problem(kind=Kind.SAME_BYTES, name=record.image_id, detail=f"as {twin}")
                    )
            if progress is not None:
                progress(done, len(records))
    return problems, digests


def _inspected(
    records: Sequence[Record], pool: ThreadPoolExecutor
) -> Iterator[tuple[Record, Problem | tuple[bytes, str]]]:
    for start in range(0, len(records), _BLOCK):
        block = records[start : start + _BLOCK]
        yield from zip(block, pool.map(_inspect, block), strict=True)


def _inspect(record: Record) -> Problem | tuple[bytes, str]:
    """Return what is wrong with an image, or its digest and from what it is converted."""
    try:
        data = read_bytes(record.image)
        pixels = decode(data, place(record.image))
    except DataError as error:
        return Problem(kind=Kind.UNREADABLE, name=record.image_id, detail=str(error))
    if pixels.min() == pixels.max():
        return Problem(kind=Kind.BLANK, name=record.image_id)
    return sha256(data).digest(), conversion(data)


def leaks(
    digests: dict[str, bytes], train: Iterable[str], test: Iterable[str]
) -> Iterator[Problem]:
    """Name each test image whose bytes are also a training image's.

    Args:
        digests: image_id -> SHA-256, of ``check_images``.
        train: image_ids of one list.
        test: image_ids of the other.
    """
    seen = {digests[image]: image for image in sorted(train) if image in digests}
    for image in sorted(test):
        twin = seen.get(digests.get(image, b""))
        if twin is not None:
            yield Problem(kind=Kind.LEAK, name=image, detail=f"as {twin}")


def summarise(
    cohort: Cohort,
    root: str,
    problems: Iterable[Problem],
    subsets: dict[str, tuple[int, int]] | None = None,
) -> CheckReport:
    """Count patients, images, labels, views and sexes of a cohort into a report."""
    matrix = cohort.label_matrix()
    names = {PRESENT: "present", ABSENT: "absent", UNKNOWN: "unknown", UNCERTAIN: "uncertain"}
    labels = {
        finding: {name: int((matrix[:, column] == value).sum()) for value, name in names.items()}
        for column, finding in enumerate(cohort.vocabulary)
    }
    return CheckReport(
        root=root,
        source=cohort.source,
        patients=len(cohort.patients()),
        images=len(cohort),
        labels=labels,
        views=dict(sorted(Counter(r.view or "unknown" for r in cohort.records).items())),
        sexes=dict(sorted(Counter(r.sex or "unknown" for r in cohort.records).items())),
        subsets=subsets or {},
        digest=cohort.digest().hex(),
        problems=tuple(problems),
    )
