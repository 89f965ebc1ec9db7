"""Whether a mention is stated, ruled out or uncertain: negation and hedging.

Uncertainty after the mention is read first, then negation, then uncertainty before it: "no
opacity suspicious for pneumonia" rules pneumonia out, "no effusion, pneumonia cannot be excluded"
does not. How far a cue reaches is decided in ``reach``, the size of structures in ``structures``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from client.data.labeller.phrases import Mention, find_mentions
from client.data.labeller.reach import OR, Cue, Sentence
from client.data.labeller.structures import read_size
from client.data.records import ABSENT, PRESENT, UNCERTAIN

_CHOICE = re.compile(r"(?:, (?:(?!and |or |with |no )\w+ ){1,4}){0,2}, or (?!no |not )|or both ")
"""What stands behind the first of "edema, pneumonia, or both" or "edema, infection, or blood"."""
_LIST_WORDS = 20
_CLOSE = 6
"""Tokens within which "or" joins two affirmed findings into an alternative."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a sentence says of one finding.

    Attributes:
        finding: one of ``phrases.LABELS``.
        state: ``PRESENT``, ``ABSENT`` or ``UNCERTAIN``.
        weak: uncertain for want of a plain word (a sign, an unchanged size); any other
            statement of the finding outweighs it.
    """

    finding: str
    state: int
    weak: bool = False


@lru_cache(maxsize=1 << 14)  # reports repeat themselves: "no pneumothorax" is read once
def read_sentence(text: str) -> tuple[Statement, ...]:
    """Return what a sentence's normal form states, one statement a mention, in order."""
    mentions = find_mentions(text)
    if not mentions:
        return ()
    sentence = Sentence(text)
    places = [Cue(*sentence.span(m.start, m.end)) for m in mentions]
    statements = []
    for mention, place in zip(mentions, places, strict=True):
        if sentence.reached(place, sentence.context) is not None:
            continue
        if mention.kind == "structure":
            state, weak = read_size(sentence.words, sentence.breaks, place.first, place.past)
            if state == PRESENT and _is_composite(sentence, mention, place):
                state, weak = UNCERTAIN, True
        else:
            state, weak = _finding(
                sentence, mention, place, list(zip(mentions, places, strict=True))
            )
        if state is not None:
            statements.append(Statement(mention.finding, state, weak))
    return tuple(statements)


def _finding(
    sentence: Sentence, mention: Mention, place: Cue, others: list[tuple[Mention, Cue]]
) -> tuple[int, bool]:
    hedge = sentence.reached_back(place, sentence.hedged_after)
    denial = sentence.reached_back(place, sentence.negated_after)
    if hedge and (denial is None or hedge.first <= denial.first):
        return UNCERTAIN, False
    if denial or _is_denied(sentence, place):
        return ABSENT, False
    if sentence.reached(place, sentence.hedged_before, lists=False) or sentence.reached(
        place, sentence.hedged_list
    ):
        return UNCERTAIN, False
    if mention.kind == "hint":
        return UNCERTAIN, True
    if _is_alternative(sentence, mention, place, others):
        return UNCERTAIN, False
    return PRESENT, False


_NORMAL_NEXT = re.compile(
    r"(?:(?:is|are|appears?|remains?) )(?:to be )?(?:\w+ly )?"
    r"(?:normal|unremarkable|within (?:the )?(?:\w+ )?(?:limits?|range)(?: of normal)?)\b"
)
_NORMAL_WORDS = 8


def _is_denied(sentence: Sentence, place: Cue) -> bool:
    """Whether a cue before the mention, in it or right at it rules it out."""
    words = sentence.words
    inside = words[place.first : place.past]
    if any(word in ("not", "no", "without") for word in inside):
        return True
    if place.first and words[place.first - 1] in ("normal", "unremarkable"):
        return True
    if _NORMAL_NEXT.match(" ".join(words[place.past : place.past + _NORMAL_WORDS])):
        return True
    return bool(
        sentence.reached(place, sentence.negated_before)
        or sentence.reached(place, sentence.negated_near, lists=False)
    )


def _is_alternative(
    sentence: Sentence, mention: Mention, place: Cue, others: list[tuple[Mention, Cue]]
) -> bool:
    """Whether "or" or "versus" joins the mention to the next or last one of another finding."""
    if any(c.past <= place.first for c in sentence.unchanged):
        return False  # "no change in the effusion or atelectasis" states both
    behind = " ".join(sentence.words[place.past : place.past + _LIST_WORDS])
    if _CHOICE.match(f"{behind} "):
        return True
    for other, there in others:
        if other.finding == mention.finding or other.kind == "structure":
            continue
        first, second = sorted((place, there), key=lambda c: c.first)
        if second.first < first.past:  # "pleural fluid or thickening": one names both
            shared = sentence.words[first.first : max(first.past, second.past)]
            if any(word in OR and word != "/" for word in shared):
                return True
            continue
        gap = range(first.past, second.first)
        between = [sentence.words[i] for i in gap]
        if (
            len(between) <= _CLOSE
            and any(word in OR and word != "/" for word in between)
            and not any(word in (",", ";") for word in between[:-1] if between != [",", "or"])
            and not any(i in sentence.breaks for i in gap)
            and not any(c.first in gap for _mention, c in others)
        ):
            return True
    return False


def _is_composite(sentence: Sentence, mention: Mention, place: Cue) -> bool:
    """Whether a silhouette of heart and mediastinum may be large without the heart being so."""
    words = sentence.words[place.first : place.past]
    return mention.finding == "Cardiomegaly" and any("mediastin" in word for word in words)
