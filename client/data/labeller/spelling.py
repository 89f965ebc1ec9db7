"""Misspelt names of findings, set right: dictation and typing leave "pneumothorx" and "efusion".

A word that is one edit (a letter left out, added, changed, or two swapped) from a finding's name
is that name; two edits for names of eleven letters or more. The first letter must be right, and
short names are left alone, so that no other word of a report is taken for a finding.
"""

from __future__ import annotations

from functools import lru_cache

NAMES = frozenset((
    "atelectasis", "atelectatic", "atelectases", "cardiomegaly", "cardiomediastinal",
    "consolidation", "consolidations", "consolidative", "consolidating", "costophrenic",
    "effusion", "effusions",
    "emphysema", "emphysematous", "fibrosis", "fibrotic", "fracture", "fractures", "fractured",
    "infiltrate", "infiltrates", "infiltration", "infiltrative", "mediastinum", "mediastinal",
    "opacities", "opacification", "opacified", "pneumonia", "pneumonias", "pneumonic",
    "pneumothorax", "pneumothoraces", "silhouette", "congestion", "congestive", "congested",
    "pacemaker", "endotracheal", "nasogastric", "tracheostomy", "silhouettes",
))  # fmt: skip
"""Names that a word may be meant for; each stands for itself."""

_SHORTEST = 7
_LONG = 11
_INITIALS = frozenset(name[0] for name in NAMES)


@lru_cache(maxsize=1 << 14)
def corrected(word: str) -> str:
    """Return the finding's name that a misspelt word is meant for, or the word itself."""
    if len(word) < _SHORTEST or word in NAMES or word[0] not in _INITIALS or not word.isalpha():
        return word
    best, least = word, 3
    for name in sorted(NAMES):
        allowed = 2 if len(name) >= _LONG else 1
        if name[0] != word[0] or abs(len(name) - len(word)) > allowed:
            continue
        distance = edits(word, name)
        if distance <= allowed and distance < least:
            best, least = name, distance
    return best


def edits(one: str, other: str) -> int:
    """Return the edits between two words, a swap of neighbours being one (Damerau 1964)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
