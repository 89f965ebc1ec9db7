"""What a sentence says of a structure's size: the heart, the mediastinum.

"Heart size is normal" mentions Cardiomegaly and rules it out; "the cardiac silhouette is enlarged"
states it. The nearest words about size decide: first those beside the structure, then the
predicate that it shares with a list, then the adjective before a list. A size that is borderline,
hard to judge, or only compared with an earlier film leaves the finding uncertain; no word about
size says nothing.
"""

from __future__ import annotations

import re

from client.data.labeller.cues import VERB, whole
from client.data.records import ABSENT, PRESENT, UNCERTAIN

NORMAL = whole(
    r"normal|unremarkable|not (?:\w+ly )?(?:enlarged|widened|increased|prominent|dilated|abnormal)",
    r"no (?:\w+ ){0,2}(?:enlargement|widening|abnormalit\w+)|non ?enlarged",
    r"without (?:\w+ ){0,2}(?:enlargement|widening|abnormalit\w+)",
    r"within (?:the )?(?:\w+ )?limits(?: of normal)?|satisfactory|not (?:\w+ )?wide",
    r"maintained|preserved",
)
"""Says that a structure is of normal size."""

ENLARGED_BEFORE = whole(
    r"enlarged|enlargement|enlarging|increased?|prominent|prominence|widened|widening|wide|large|"
    r"larger|big|dilated|dilatation|dilation|broad|globular|fullness|bulky|abnormal"
)
"""Says, before a structure, that it is larger than normal."""

ENLARGED_AFTER = whole(
    r"enlarged|enlargement|enlarging|widened|widening|dilated|globular",
    (
        r"(?:increased?|prominent|prominence|wide|large|larger|bigger|big|broad|broadened|"
        r"fullness|full|abnormal|bulky|distended)(?= $| [,;]| (?:in|and|or|but|for|with|compared|"
        r"since|than|given|on|due|as|from|size|by|which|even|despite|again|though|although) )"
    ),
)
"""Says, after a structure, that it is larger than normal."""

VAGUE = whole(
    r"borderline|top normal|upper normal|high normal|upper limits of normal|indeterminate",
    r"(?<!within )(?<!within the )limits of normal",
    (
        r"(?:at |in |near |within )?(?:the )?(?:upper|high|top) (?:limits?|range|end)?(?: of)?"
        r"(?: the)?(?: normal)?"
    ),
    r"normal to (?:mildly |slightly |minimally )?(?:enlarged|prominent)",
    r"accentuat\w+|exaggerat\w+|magnif\w+|(?:may|might|could) (?:also )?be",
    r"possibl[ey]|probabl[ey]|suspected|likely|question\w*|suboptimally \w+",
    r"(?:difficult|hard|unable|impossible|limited) to (?:\w+ly )?\w+|cannot (?:be )?(?:\w+ly )?\w+",
    (
        r"not (?:well |fully |adequately |reliably |\w+ly )?(?:assessed|evaluated|seen|visualized|"
        r"delineated|defined|measured|assessable)"
    ),
)
"""Says that a structure's size is doubtful."""

STABLE = whole(
    r"stable|unchanged|similar|constant|consistent|persistent|"
    r"no (?:\w+ ){0,3}change[sd]?|not (?:\w+ly )?changed|as before|unaltered|grossly stable|"
    r"obscured|little change|without (?:\w+ )?change|silhouetted"
)
"""Compares a structure with an earlier film and says no more."""

_LINKS = re.compile(r" (?:(?:is|are|remains?|still|again|but|also|\w+ly) )*")
_NEAR = 6
"""Tokens before a structure within which an adjective of a list still belongs to it."""
_DETACHING = frozenset(
    ("over", "behind", "overlying", "by", "near", "at", "obscuring", "adjacent", "to", "along")
)


def read_size(words: list[str], breaks: set[int], first: int, past: int) -> tuple[int | None, bool]:
    """Return the state of the structure that tokens ``first`` to before ``past`` name.

    Args:
        words: the sentence's tokens.
        breaks: indices of tokens at which another statement begins.
        first: index of the structure's first token.
        past: index after its last.

    Returns:
        PRESENT if enlarged, ABSENT if normal, UNCERTAIN, or None where no word is about size;
        and whether it is uncertain only because it is compared with an earlier film.
    """
    left = first
    while left > 0 and not _divides(words, breaks, left - 1) and not _detaches(words[left - 1]):
        left -= 1
    right = past
    while right < len(words) and not _divides(words, breaks, right):
        right += 1
    end = right
    while end < len(words) and not _ends(words, breaks, end) and not _denies_next(words, end):
        end += 1
    state, weak = _size(words[left:first], words[past:right])
    if weak:  # "the heart size remains unchanged and is within normal limits"
        state, weak = _second_predicate(words, right) or (state, weak)
    if state is None:  # "heart size and mediastinal contours are normal"
        state, weak = _size([], words[past:end])
    if state is None:  # "normal heart size and mediastinal contours"
        state, weak = _size(words[max(0, first - _NEAR) : first], [])
    return state, weak


def _second_predicate(words: list[str], i: int) -> tuple[int, bool] | None:
    """Return the size that a second predicate of the same subject states right after "and"."""
    if words[i : i + 1] not in (["and"], [","]):
        return None
    after = f" {' '.join(words[i + 1 : i + 9])} "
    start = _LINKS.match(after).end()  # type: ignore[union-attr]  # it matches nothing, too
    if NORMAL.match(after, start):
        return ABSENT, False
    return (PRESENT, False) if ENLARGED_AFTER.match(after, start) else None


def _divides(words: list[str], breaks: set[int], i: int) -> bool:
    return _ends(words, breaks, i) or words[i] in (",", "and", "or")


def _ends(words: list[str], breaks: set[int], i: int) -> bool:
    """Whether another statement begins; "which" goes on about the structure."""
    return i in breaks and words[i] != "which"


def _detaches(word: str) -> bool:
    """Whether what stands before the word is about something else: "effusion obscures the"."""
    return bool(VERB.fullmatch(word)) or word in _DETACHING


def _denies_next(words: list[str], i: int) -> bool:
    """Whether another statement begins: "heart size, no effusion"."""
    return words[i] in ("no", "without") and words[i - 1] == ","


def _size(before: list[str], after: list[str]) -> tuple[int | None, bool]:
    """Return what the words before and after a structure say of its size."""
    left, right = f" {' '.join(before)} ", f" {' '.join(after)} "
    if VAGUE.search(left) or VAGUE.search(right):
        return UNCERTAIN, False
    for text, enlarging in ((left, ENLARGED_BEFORE), (right, ENLARGED_AFTER)):
        normal, enlarged = NORMAL.search(text), enlarging.search(text)
        if normal and (enlarged is None or normal.start() <= enlarged.start()):
            return ABSENT, False
        if enlarged:
            return PRESENT, False
    if STABLE.search(left) or STABLE.search(right):
        return UNCERTAIN, True
    return None, False
