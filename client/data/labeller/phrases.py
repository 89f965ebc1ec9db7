"""The words that name each finding: vocabularies of the 14 NIH and the other CheXpert findings.

Patterns read the normal form of ``sentences.normal``. Which words belong to which finding follows
CheXpert's definitions (Irvin et al., AAAI 2019) where it has the finding: infection names
Pneumonia, heart failure and vascular congestion name Edema, infiltrates and interstitial markings
name Lung_Opacity; and NIH's (Wang et al., CVPR 2017) for the rest. A mention has one of three
kinds:

    "finding"    states its finding by being there ("effusion"), unless it is negated
    "hint"       a sign that leaves its finding uncertain ("blunted costophrenic angle")
    "structure"  an organ; what is said about it decides ("heart size is normal")
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from client.data.labeller import lookalikes, terms
from client.data.records import FINDINGS

LABELS: tuple[str, ...] = (
    *FINDINGS,
    "Enlarged_Cardiomediastinum",
    "Lung_Opacity",
    "Lung_Lesion",
    "Pleural_Other",
    "Fracture",
    "Support_Devices",
)
"""What mentions can name: NIH's 14 findings, then CheXpert's others, by their canonical names."""

NO_FINDING = "No_Finding"

Kind = Literal["finding", "hint", "structure"]


@dataclass(frozen=True, slots=True)
class Mention:
    """Words that name a finding: ``start`` to ``end`` in a sentence's normal form."""

    finding: str
    kind: Kind
    start: int
    end: int


def _join(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<= )(?:{'|'.join(patterns)})(?= )")


_VOCABULARIES: tuple[tuple[Kind, dict[str, tuple[str, ...]]], ...] = (
    ("finding", terms.STATED),
    ("hint", terms.HINTED),
    ("structure", terms.STRUCTURES),
)
_PATTERNS: tuple[tuple[str, Kind, re.Pattern[str]], ...] = tuple(
    (label, kind, _join(vocabulary[label]))
    for kind, vocabulary in _VOCABULARIES
    for label in LABELS
    if label in vocabulary
)
_MASKS = {label: _join(patterns) for label, patterns in lookalikes.MASKED.items()}


def find_mentions(sentence: str) -> list[Mention]:
    """Return every mention in a sentence's normal form, longest of each place, in order."""
    found: list[Mention] = []
    for label, kind, pattern in _PATTERNS:
        text = sentence
        if label in _MASKS:
            text = _MASKS[label].sub(lambda m: "#" * len(m.group()), text)
        for match in pattern.finditer(text):
            mention = Mention(label, kind, match.start(), match.end())
            if not any(_inside(mention, other) for other in found):
                found.append(mention)
    return sorted(found, key=lambda m: (m.start, m.finding))


def _inside(mention: Mention, other: Mention) -> bool:
    """A structure inside a finding's own words ("enlargement of the heart") says no more."""
    return (
        mention.finding == other.finding and other.start < mention.end and mention.start < other.end
    )
