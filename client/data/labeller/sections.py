"""Report sections: what the radiologist saw, apart from why the film was taken.

A history, an indication or a comparison names findings that nobody has seen on this film, so
their text must never make a label. Headings are told by a closed list of names in use at
MIMIC-CXR, Open-i, CheXpert and NIH; an unknown heading ("Lungs:", "Portable chest:") belongs to
the text that it stands in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["findings", "impression", "context", "body"]

_HEADINGS: dict[Kind, tuple[str, ...]] = {
    "impression": (
        "impressions?",
        "conclusions?",
        "opinion",
        "summary",
        "diagnosis",
        "interpretation",
        "assessment",
        "imp",
    ),
    "findings": (
        "findings?",
        "observations?",
        "results?",
        "findings? and impression",
        "findings?/impression",
        "description",
        "narrative",
    ),
    "body": ("(?:final |preliminary )?report", "(?:wet|preliminary) read(?:ing)?", "addendum"),
    "context": (
        r"(?:brief |past |relevant )?(?:clinical |medical |patient |surgical )?(?:history|hx)",
        r"clinical (?:indications?|information|data|details|statement|concern|question|notes?)",
        r"(?:clinical )?(?:history|indications?)(?: ?(?:/|and|&) ?(?:indications?|history))?",
        r"indications?(?: for (?:exam(?:ination)?|study))?",
        r"reasons?(?: for (?:this |the )?(?:exam(?:ination)?|study|visit|request|consultation))?",
        "(?:underlying |other )?medical conditions?",
        "(?:admitting |clinical |provisional |working )diagnosis",
        "(?:chief )?complaints?",
        "symptoms?",
        r"comparisons?(?: (?:stud(?:y|ies)|exams?|films?|date))?",
        "compared? (?:to|with)",
        "prior (?:stud(?:y|ies)|exams?|imaging|films?)",
        r"techniques?(?: and (?:findings|views))?",
        r"exam(?:ination)?(?: type| date)?",
        "procedures?(?: date| comments?)?",
        "study(?: type| date)?",
        "type of exam(?:ination)?",
        "views?",
        "order(?:ing)?(?: (?:reason|diagnosis|physician))?",
        "recommendations?",
        "notifications?",
        "(?:critical )?communications?",
        "attending(?: physician)?",
        "dictated(?: by)?",
        "signed(?: by)?",
        "electronically signed(?: by)?",
        "history of present illness",
        "contrast",
        "radiation dose",
    ),
}

_NAMES = "|".join(
    f"(?P<{kind}>{'|'.join(sorted(names, key=len, reverse=True))})"
    for kind, names in _HEADINGS.items()
)
_COLON = re.compile(rf"\b(?:{_NAMES})[ \t]{{0,4}}:", re.IGNORECASE)
_LINE = re.compile(rf"^[ \t]{{0,80}}(?:{_NAMES})[ \t]{{0,80}}$", re.I | re.M)
_BLANK_LINE = re.compile(r"\n[ \t\r]{0,80}\n")

_BRIEF = re.compile("prior|compar|techni|exam|view|proced|study|type", re.IGNORECASE)
"""Contexts of one sentence: "Comparison: none. The heart is enlarged." """
_SENTENCE_END = re.compile(r"(?<=[\w)\]])\.\s")


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a report: its kind and its text without the heading."""

    kind: Kind
    text: str


def split_sections(report: str) -> list[Section]:
    """Cut a report at its headings, in order.

    Text before the first heading is "body". Where a report has no findings heading, a context
    section before its impression ends at the first blank line, or a comparison or technique at
    its first sentence: what follows is the unnamed reading. Where that leaves nothing to read
    ("History: cough. The lungs are clear."), the last context ends at its first sentence.
    """
    marks = _marks(report)
    sections = _cut(report, marks)
    if {*_kinds(marks), *(section.kind for section in sections)} == {"context"} and sections:
        text = sections[-1].text
        end = _SENTENCE_END.search(text)
        if end:
            sections[-1] = Section("context", text[: end.start()])
            _add(sections, "body", text[end.end() :])
    return sections


def _cut(report: str, marks: list[tuple[int, int, Kind]]) -> list[Section]:
    """Cut a report at its headings; see ``split_sections``."""
    kinds = _kinds(marks)
    unnamed = 0 if "findings" in kinds else len(kinds)
    if "impression" in kinds:
        unnamed = min(unnamed, kinds.index("impression"))
    sections: list[Section] = []
    _add(sections, "body", report[: marks[0][0]] if marks else report)
    for i, (start, end, kind) in enumerate(marks):
        text = report[end : marks[i + 1][0] if i + 1 < len(marks) else len(report)]
        if kind == "context" and i < unnamed:
            # The heading may stand on a line of its own, so blanks right after it do not count.
            lead = len(text) - len(text.lstrip())
            blank = _BLANK_LINE.search(text, lead)
            if blank is None and _BRIEF.match(report, start):
                blank = _SENTENCE_END.search(text)
            if blank:
                _add(sections, kind, text[: blank.start()])
                _add(sections, "body", text[blank.end() :])
                continue
        _add(sections, kind, text)
    return sections


def reading(report: str) -> list[str]:
    """Return the texts that state what is on the film: all sections but the context."""
    return [section.text for section in split_sections(report) if section.kind != "context"]


def _kinds(marks: list[tuple[int, int, Kind]]) -> list[Kind]:
    return [kind for _start, _end, kind in marks]


def _add(sections: list[Section], kind: Kind, text: str) -> None:
    if text.strip():
        sections.append(Section(kind, text))


def _marks(report: str) -> list[tuple[int, int, Kind]]:
    """Return (start, end, kind) of every heading, in order, none inside another."""
    found = [m for m in _COLON.finditer(report) if _is_heading(report, m)]
    found += list(_LINE.finditer(report))
    marks: list[tuple[int, int, Kind]] = []
    for match in sorted(found, key=lambda m: m.start()):
        if marks and match.start() < marks[-1][1]:
            continue
        kind: Kind = next(k for k in _HEADINGS if match.group(k) is not None)
        marks.append((match.start(), match.end(), kind))
    return marks


def _is_heading(report: str, match: re.Match[str]) -> bool:
    """A heading is in capitals, or begins a line or a sentence."""
    if match.group().isupper():
        return True
    before = report[max(0, match.start() - 40) : match.start()].rstrip(" \t*#>-")
    return not before or before[-1] in ".\n\r;:!?)]_"
