"""From mentions to a report's labels, by CheXpert's rule.

A finding stated anywhere is present; else, uncertain anywhere, it is uncertain; else, ruled out
anywhere, it is absent; else, where only a weak sign is named, it is uncertain; else nothing is
known of it (blank). ``No_Finding`` is present where the report
was read and no finding but devices is present or uncertain, and blank otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable

from client.data.labeller.phrases import LABELS, NO_FINDING
from client.data.labeller.scope import Statement, read_sentence
from client.data.labeller.sections import reading
from client.data.labeller.sentences import normal, split_sentences
from client.data.records import ABSENT, PRESENT, UNCERTAIN, UNKNOWN

COLUMNS: tuple[str, ...] = (*LABELS, NO_FINDING)
"""The columns of a table of labels."""

_RANK = ((PRESENT, False), (UNCERTAIN, False), (ABSENT, False), (UNCERTAIN, True))


def aggregate(statements: Iterable[Statement]) -> dict[str, int]:
    """Return the label of every finding: 1, 0, -2 (uncertain) or -1 (nothing said)."""
    said: dict[str, set[tuple[int, bool]]] = {}
    for statement in statements:
        said.setdefault(statement.finding, set()).add((statement.state, statement.weak))
    return {
        label: next(
            (state for state, weak in _RANK if (state, weak) in said.get(label, ())), UNKNOWN
        )
        for label in LABELS
    }


def label_report(report: str) -> dict[str, int]:
    """Return a report's label for each of ``COLUMNS``.

    Args:
        report: a report's whole text, with or without headings.

    Returns:
        1 present, 0 absent, -2 uncertain, -1 nothing said; see ``client.data.records``.
    """
    texts = reading(report)
    sentences = [normal(s) for text in texts for s in split_sentences(text)]
    labels = aggregate(statement for s in sentences for statement in read_sentence(s))
    found = any(
        state in (PRESENT, UNCERTAIN)
        for label, state in labels.items()
        if label != "Support_Devices"
    )
    read = any(sentence.strip() for sentence in sentences)
    labels[NO_FINDING] = PRESENT if read and not found else UNKNOWN
    return labels
