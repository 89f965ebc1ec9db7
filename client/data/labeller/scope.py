"""Whether a mention is stated, ruled out or uncertain: the reach of negation and hedging.

NegEx (Chapman et al. 2001) lets a cue reach a fixed number of words; reports string long lists
after one "no", so a cue here reaches to the end of its statement: through "," "and" "or" while
what follows is another item of the list, and not past a word that ends it or the beginning of a
statement with a verb or a size of its own. Uncertainty after the mention is read first, then
negation, then uncertainty before it: "no opacity suspicious for pneumonia" rules pneumonia out,
"no effusion, pneumonia cannot be excluded" does not.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from client.data.labeller import cues
from client.data.labeller.phrases import Mention, find_mentions
from client.data.records import ABSENT, PRESENT, UNCERTAIN

_CONNECTORS = frozenset({",", "and", "or", "nor", "/", ":", "(", ")", "versus"})
_OR = frozenset({"or", "nor", "versus", "/"})
_STOPS = frozenset({"no", "without", "not", "but", ";", "with", "however", "although", "though"})
_ITEM_OF_ITS_OWN = frozenset(
    "a an the there left right bilateral bibasilar basilar biapical retrocardiac small moderate "
    "mild minimal trace tiny stable unchanged persistent increased decreased improving improved "
    "worsening worsened residual patchy linear likely probable possible prominent enlarged "
    "degenerative low slight slightly mildly multiple calcified chronic old mid persisting "
    "continued subsegmental streaky again also moderately dense hazy diffuse scattered known "
    "tortuous healed dual support severe status heart cardiac lungs stably marked new".split()
)
_CLOSE = 6
"""Tokens within which "or" joins two affirmed findings into an alternative."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a sentence says of one finding: ``PRESENT``, ``ABSENT`` or ``UNCERTAIN``."""

    finding: str
    state: int


class _Cue:
    """The tokens from ``first`` to before ``past`` are a cue."""

    __slots__ = ("first", "past")

    def __init__(self, first: int, past: int) -> None:
        self.first, self.past = first, past


class _Sentence:
    """A sentence's tokens and the cues in it, by token index."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = text.split()
        self.starts: list[int] = []
        position = 1
        for word in self.words:
            self.starts.append(position)
            position += len(word) + 1
        self.breaks = {cue.first for cue in self.find(cues.BREAK, text)}
        plain = self.mask(cues.PSEUDO, text)
        self.context = self.find(cues.CONTEXT_BEFORE, plain)
        self.hedged_after = self.find(cues.UNCERTAIN_AFTER, plain)
        self.hedged_before = self.find(cues.UNCERTAIN_BEFORE, plain)
        self.hedged_list = self.find(cues.UNCERTAIN_LIST, plain)
        plain = self.mask(_EXCLUSIONS, plain)
        self.negated_after = self.find(cues.NEGATION_AFTER, plain)
        self.negated_before = self.find(cues.NEGATION_BEFORE, plain)
        self.negated_near = self.find(cues.NEGATION_NEAR, plain)

    def find(self, pattern: re.Pattern[str], text: str) -> list[_Cue]:
        return [_Cue(*self.span(m.start(), m.end())) for m in pattern.finditer(text)]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the token range of a character range."""
        return bisect_right(self.starts, start) - 1, bisect_left(self.starts, end)

    @staticmethod
    def mask(pattern: re.Pattern[str], text: str) -> str:
        return pattern.sub(lambda m: re.sub(r"\S", "#", m.group()), text)

    def end_of_reach(self, past: int, *, lists: bool) -> int:
        """Return the token index before which a cue that ends at ``past`` reaches.

        Args:
            past: index of the first token after the cue.
            lists: whether the cue reaches through "," without an "or" behind it.
        """
        for i in range(past, len(self.words)):
            if i in self.breaks:
                return i
            word = self.words[i]
            if word in (",", "and", ":") and self._is_new_statement(i + 1, lists=lists):
                return i
        return len(self.words)

    def _is_new_statement(self, first: int, *, lists: bool) -> bool:
        words = self.words
        if first < len(words) and words[first] in _CONNECTORS:  # ", and": judged at the "and"
            return False
        if self._or_follows(first):
            return self._own_verb(first) and words[first] in ("the", "a", "an", "heart", "lungs")
        if not lists and words[first - 1] == ",":
            return True
        return any(w in _ITEM_OF_ITS_OWN for w in words[first : first + 2]) or self._own_verb(first)

    def _or_follows(self, first: int) -> bool:
        for i in range(first, len(self.words)):
            if self.words[i] in _STOPS or i in self.breaks:
                return False
            if self.words[i] in _OR:
                return True
        return False

    def _own_verb(self, first: int) -> bool:
        """Whether the item has a finite verb behind a subject of its own."""
        for i in range(first, len(self.words)):
            if self.words[i] in _CONNECTORS or i in self.breaks:
                return False
            if i > first and cues.VERB.fullmatch(self.words[i]):
                return True
        return False

    def start_of_reach(self, first: int) -> int:
        """Return the token index from which a cue that begins at ``first`` reaches back."""
        words, joined, last_join = self.words, False, first
        i = first - 1
        while i >= 0 and (words[i] == "," or cues.VERB.fullmatch(words[i])):
            i -= 1  # the cue's own verb: "infection | is | not excluded"
        while i >= 0:
            word = words[i]
            if word in (";", "but", "however", "although", "though", "while", "with", "without"):
                return i + 1
            if word in ("no", "not") and i + 1 < first:
                return i + 1
            if cues.VERB.fullmatch(word):
                return last_join + 1 if last_join < first else i + 1
            if word in _OR or word == "and":
                joined, last_join = True, i
            elif word == "," and not joined:
                return i + 1
            elif word == ",":
                last_join = i
            i -= 1
        return 0

    def reached(self, mention: _Cue, before: list[_Cue], *, lists: bool = True) -> _Cue | None:
        """Return the nearest cue before a mention that reaches it."""
        for cue in reversed(before):
            if cue.past <= mention.first and mention.first < self.end_of_reach(
                cue.past, lists=lists
            ):
                return cue
        return None

    def reached_back(self, mention: _Cue, after: list[_Cue]) -> _Cue | None:
        """Return the nearest cue after a mention that reaches it."""
        for cue in after:
            if mention.past <= cue.first and self.start_of_reach(cue.first) <= mention.first:
                return cue
        return None


_EXCLUSIONS = re.compile(
    f"{cues.UNCERTAIN_AFTER.pattern}|"
    r"(?<= )(?:(?:can|could|may|does|do|is|are|would)? ?(?:not|cannot) (?:\w+ ){0,2}"
    r"(?:exclude[ds]?|ruled? out|excluding))(?= )"
)


def read_sentence(text: str) -> list[Statement]:
    """Return what a sentence's normal form states, one statement a mention, in order."""
    mentions = find_mentions(text)
    if not mentions:
        return []
    sentence = _Sentence(text)
    places = [_Cue(*sentence.span(m.start, m.end)) for m in mentions]
    statements = []
    for mention, place in zip(mentions, places, strict=True):
        if sentence.reached(place, sentence.context) is not None:
            continue
        if mention.kind == "structure":
            state = _structure(sentence, mention, place)
        else:
            state = _finding(sentence, mention, place, list(zip(mentions, places, strict=True)))
        if state is not None:
            statements.append(Statement(mention.finding, state))
    return statements


def _finding(
    sentence: _Sentence, mention: Mention, place: _Cue, others: list[tuple[Mention, _Cue]]
) -> int:
    hedge = sentence.reached_back(place, sentence.hedged_after)
    denial = sentence.reached_back(place, sentence.negated_after)
    if hedge and (denial is None or hedge.first <= denial.first):
        return UNCERTAIN
    if denial or _is_denied(sentence, place):
        return ABSENT
    if sentence.reached(place, sentence.hedged_before, lists=False) or sentence.reached(
        place, sentence.hedged_list
    ):
        return UNCERTAIN
    if mention.kind == "hint" or _is_alternative(sentence, mention, place, others):
        return UNCERTAIN
    return PRESENT


_NORMAL_NEXT = re.compile(
    r"(?:(?:is|are|appears?|remains?) )(?:within )?(?:\w+ly )?(?:normal|unremarkable)\b"
)


def _is_denied(sentence: _Sentence, place: _Cue) -> bool:
    """Whether a cue before the mention, in it or right at it rules it out."""
    words = sentence.words
    inside = words[place.first : place.past]
    if any(word in ("not", "no", "without") for word in inside):
        return True
    if place.first and words[place.first - 1] in ("normal", "unremarkable"):
        return True
    if _NORMAL_NEXT.match(" ".join(words[place.past : place.past + 4])):
        return True
    return bool(
        sentence.reached(place, sentence.negated_before)
        or sentence.reached(place, sentence.negated_near, lists=False)
    )


def _is_alternative(
    sentence: _Sentence, mention: Mention, place: _Cue, others: list[tuple[Mention, _Cue]]
) -> bool:
    """Whether "or" or "versus" joins the mention to one of another finding."""
    for other, there in others:
        if other.finding == mention.finding or other.kind == "structure":
            continue
        first, second = sorted((place, there), key=lambda c: c.first)
        between = sentence.words[first.past : second.first]
        joined = any(word in _OR for word in between)
        if joined and len(between) <= _CLOSE and not any(w in (",", ";") for w in between[:-1]):
            return True
    return False


def _structure(sentence: _Sentence, mention: Mention, place: _Cue) -> int | None:
    """Return the state of a structure from the nearest words about its size, None if none are."""
    words = sentence.words
    left = place.first
    while left > 0 and not _divides(sentence, left - 1) and not _detaches(words[left - 1]):
        left -= 1
    right = place.past
    while right < len(words) and not _divides(sentence, right):
        right += 1
    end = right
    while end < len(words) and end not in sentence.breaks and not _next_denial(words, end):
        end += 1
    before, after = words[left : place.first], words[place.past : right]
    state = _size(before, after)
    if state is None:  # "heart size and mediastinal contours are normal"
        state = _size([], words[place.past : end])
    if state is None:  # "normal heart size and mediastinal contours"
        near = words[max(0, place.first - _CLOSE) : place.first]
        state = _size(near, [])
    weak = mention.finding == "Cardiomegaly" and "mediast" in "".join(
        words[place.first : place.past]
    )
    return UNCERTAIN if weak and state == PRESENT else state


def _divides(sentence: _Sentence, i: int) -> bool:
    return i in sentence.breaks or sentence.words[i] in (",", "and", "or")


def _detaches(word: str) -> bool:
    """Whether what stands before the word is about something else: "effusion obscures the"."""
    return bool(cues.VERB.fullmatch(word)) or word in (
        "over", "behind", "overlying", "by", "near", "at", "obscuring", "adjacent", "to", "along",
    )  # fmt: skip


def _next_denial(words: list[str], i: int) -> bool:
    return words[i] in ("no", "without") and words[i - 1] == ","


def _size(before: list[str], after: list[str]) -> int | None:
    """Return what the words before and after a structure say of its size."""
    left, right = f" {' '.join(before)} ", f" {' '.join(after)} "
    if cues.VAGUE.search(left) or cues.VAGUE.search(right):
        return UNCERTAIN
    for text, enlarging in ((left, cues.ENLARGED_BEFORE), (right, cues.ENLARGED_AFTER)):
        normal, enlarged = cues.NORMAL.search(text), enlarging.search(text)
        if normal and (enlarged is None or normal.start() <= enlarged.start()):
            return ABSENT
        if enlarged:
            return PRESENT
    return UNCERTAIN if cues.STABLE.search(left) or cues.STABLE.search(right) else None
