"""How well labels agree with a reader's: precision, recall and F1 per finding.

As in the CheXpert paper (Irvin et al. 2019, table 2), three tasks are scored: *mention* (is
anything said of the finding), *negation* (is it ruled out) and *uncertainty*; a fourth,
*presence*, is what a classifier trains on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from client.data.labeller.aggregate import COLUMNS
from client.data.labeller.phrases import NO_FINDING
from client.data.labeller.sources import Columns, csv_rows, row_name
from client.data.records import ABSENT, PRESENT, UNCERTAIN, UNKNOWN
from client.data.vocabulary import canonical
from ledger.errors import DataError

TASKS: dict[str, tuple[int, ...]] = {
    "mention": (PRESENT, ABSENT, UNCERTAIN),
    "presence": (PRESENT,),
    "negation": (ABSENT,),
    "uncertainty": (UNCERTAIN,),
}
"""The labels that count as positive in each task."""

WRITTEN: dict[int, str] = {PRESENT: "1", ABSENT: "0", UNCERTAIN: "-1", UNKNOWN: ""}
"""How a table writes a label; CheXpert's own notation."""
_READ = {"1": PRESENT, "0": ABSENT, "-1": UNCERTAIN, "": UNKNOWN, "nan": UNKNOWN}

Labels = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of one task and finding over all reports."""

    true: int
    extra: int
    missed: int

    @property
    def precision(self) -> float | None:
        """True over found; None where nothing was found."""
        return self.true / (self.true + self.extra) if self.true + self.extra else None

    @property
    def recall(self) -> float | None:
        """True over stated by the reader; None where the reader states none."""
        return self.true / (self.true + self.missed) if self.true + self.missed else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both; None where neither found nor stated."""
        total = 2 * self.true + self.extra + self.missed
        return 2 * self.true / total if total else None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores by finding and task, over ``reports`` reports."""

    reports: int
    scores: dict[str, dict[str, Score]]

    def mean_f1(self, task: str) -> float | None:
        """Mean F1 over the findings that the reader states at least once in this task."""
        values = [
            score.f1 or 0.0
            for score in (tasks[task] for tasks in self.scores.values())
            if score.true + score.missed
        ]
        return sum(values) / len(values) if values else None

    def means(self) -> dict[str, float | None]:
        """Return the mean F1 of every task."""
        return {task: self.mean_f1(task) for task in TASKS}

    def to_json(self) -> dict[str, object]:
        """Return the figures as plain values; what is undefined is None."""
        return {
            "reports": self.reports,
            "mean_f1": self.means(),
            "findings": {
                finding: {
                    task: {
                        "stated": score.true + score.missed,
                        "precision": score.precision,
                        "recall": score.recall,
                        "f1": score.f1,
                    }
                    for task, score in tasks.items()
                }
                for finding, tasks in self.scores.items()
            },
        }


def evaluate(pairs: Iterable[tuple[Labels, Labels]], findings: Iterable[str]) -> Evaluation:
    """Score (found, stated) pairs of labels for the given findings."""
    counts = {finding: {task: [0, 0, 0] for task in TASKS} for finding in findings}
    reports = 0
    for found, stated in pairs:
        reports += 1
        for finding, tasks in counts.items():
            ours = found.get(finding, UNKNOWN)
            theirs = stated.get(finding, UNKNOWN)
            for task, positive in TASKS.items():
                if ours in positive and theirs in positive:
                    tasks[task][0] += 1
                elif ours in positive:
                    tasks[task][1] += 1
                elif theirs in positive:
                    tasks[task][2] += 1
    scores = {f: {t: Score(*n) for t, n in tasks.items()} for f, tasks in counts.items()}
    return Evaluation(reports, scores)


@dataclass(frozen=True, slots=True)
class Reference:
    """A reader's labels.

    Attributes:
        labels: by report name.
        lines: the line of each report's row; errors give it, as a name may identify a patient.
        findings: the findings that the reader labelled, in the order of ``COLUMNS``.
    """

    labels: dict[str, dict[str, int]]
    lines: dict[str, int]
    findings: tuple[str, ...]


def read_reference(path: Path, columns: Columns | None = None) -> Reference:
    """Read a reader's labels.

    Either one column a finding (1, 0, -1, blank), or a ``labels`` column of "Finding:label"
    joined by "|", which then speaks for every finding.

    Raises:
        DataError: a report is there twice, a label is none, or no column is a known finding.
    """
    columns = columns or Columns()
    reference: dict[str, dict[str, int]] = {}
    lines: dict[str, int] = {}
    findings: set[str] = set()
    with closing(csv_rows(path)) as rows:
        for number, (line, row) in enumerate(rows, 1):
            if columns.split is not None and row.get("split") != columns.split:
                continue
            name = row_name(path, row, columns.name, number)
            if name in reference:
                raise DataError(f"{path} line {line} labels the report of line {lines[name]} again")
            lines[name] = line
            compact = row.get("labels")
            stated = _wide(row) if compact is None else _compact(compact)
            where = f"{path} line {line}"
            reference[name] = {finding: _label(text, where) for finding, text in stated}
            findings.update(name for name, _text in stated)
            if compact is not None:
                findings.update(set(COLUMNS) - {NO_FINDING})
    if not findings & set(COLUMNS):
        raise DataError(f"{path} labels none of the findings that reports are labelled with")
    return Reference(reference, lines, tuple(name for name in COLUMNS if name in findings))


def _wide(row: Mapping[str, str]) -> list[tuple[str, str]]:
    named = [(canonical(column), text) for column, text in row.items() if column.strip()]
    return [(finding, text) for finding, text in named if finding in COLUMNS]


def _compact(text: str) -> list[tuple[str, str]]:
    pairs = (item.partition(":") for item in text.split("|") if item.strip())
    return [(canonical(finding), label) for finding, _colon, label in pairs]


def _label(text: str, where: str) -> int:
    plain = text.strip().lower()
    if plain.endswith(".0"):
        plain = plain[:-2]
    if plain not in _READ:
        raise DataError(f"{where} has a label other than 1, 0, -1 and blank")
    return _READ[plain]
