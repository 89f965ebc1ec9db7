"""A sentence's cues, and how far each reaches.

NegEx (Chapman et al. 2001) lets a cue reach a fixed number of words; reports string long lists
after one "no", so a cue here reaches to the end of its statement: through "," "and" "or" while
what follows is another item of the list, and not past a word that ends it or the beginning of a
statement with a verb or a size of its own.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from client.data.labeller import cues

_CONNECTORS = frozenset({",", "and", "or", "nor", "/", ":", "(", ")", "versus"})
OR = frozenset({"or", "nor", "versus", "/"})
_STOPS = frozenset({"no", "without", "not", "but", ";", "with", "however", "although", "though"})
_ITEM_OF_ITS_OWN = frozenset((
    "a", "an", "the", "there", "left", "right", "bilateral", "bibasilar", "basilar", "biapical",
    "retrocardiac", "small", "moderate", "mild", "minimal", "trace", "tiny", "stable",
    "unchanged", "persistent", "increased", "decreased", "improving", "improved", "worsening",
    "worsened", "residual", "patchy", "linear", "likely", "probable", "possible", "prominent",
    "enlarged", "degenerative", "low", "slight", "slightly", "mildly", "multiple", "calcified",
    "chronic", "old", "mid", "persisting", "continued", "subsegmental", "streaky", "again",
    "also", "moderately", "dense", "hazy", "diffuse", "scattered", "known", "tortuous", "healed",
    "dual", "support", "severe", "status", "heart", "cardiac", "lungs", "stably", "marked",
    "new",
))  # fmt: skip
_ADJECTIVES = frozenset((
    "acute", "focal", "large", "definite", "significant", "suspicious", "new", "discrete", "dense",
    "displaced", "lobar", "confluent", "convincing", "obvious", "gross", "overt", "frank", "clear",
    "airspace", "pleural", "pulmonary", "active", "superimposed", "definitive", "sizable",
))  # fmt: skip
_LIST_ENDS = [["seen"], ["identified"], ["evident"], ["visualized"], ["appreciated"], ["detected"]]

_NOT_EXCLUDED = re.compile(
    f"{cues.UNCERTAIN_AFTER.pattern}|"
    r"(?<= )(?:(?:can|could|may|does|do|is|are|would)? ?(?:not|cannot) (?:\w+ ){0,2}"
    r"(?:exclude[ds]?|ruled? out|excluding))(?= )"
)


@dataclass(frozen=True, slots=True)
class Cue:
    """Tokens from ``first`` to before ``past``: a cue's, or a mention's."""

    first: int
    past: int


class Sentence:
    """A sentence's tokens and the cues in it, by token index."""

    def __init__(self, text: str) -> None:
        self.words = text.split()
        self.starts: list[int] = []
        position = 1
        for word in self.words:
            self.starts.append(position)
            position += len(word) + 1
        self.breaks = {cue.first for cue in self.find(cues.BREAK, text)}
        plain = self.mask(cues.PSEUDO, text)
        self.unchanged = self.find(cues.UNCHANGED, text)
        self.context = self.find(cues.CONTEXT_BEFORE, plain)
        self.hedged_after = self.find(cues.UNCERTAIN_AFTER, plain)
        self.hedged_before = self.find(cues.UNCERTAIN_BEFORE, plain)
        self.hedged_list = self.find(cues.UNCERTAIN_LIST, plain)
        plain = self.mask(_NOT_EXCLUDED, plain)
        self.negated_after = self.find(cues.NEGATION_AFTER, plain)
        self.negated_before = self.find(cues.NEGATION_BEFORE, plain)
        self.negated_near = self.find(cues.NEGATION_NEAR, plain)

    def find(self, pattern: re.Pattern[str], text: str) -> list[Cue]:
        """Return every place of a pattern, in order."""
        return [Cue(*self.span(m.start(), m.end())) for m in pattern.finditer(text)]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the token range of a character range."""
        return bisect_right(self.starts, start) - 1, bisect_left(self.starts, end)

    @staticmethod
    def mask(pattern: re.Pattern[str], text: str) -> str:
        """Return the text with the pattern's words overwritten, all else in its place."""
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
                if word == "," and all(w in _ADJECTIVES for w in self.words[past:i]):
                    continue  # "no acute, displaced fracture": the first item is not named yet
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
            if self.words[i] in OR:
                return True
        return False

    def _own_verb(self, first: int) -> bool:
        """Whether the item has a finite verb behind a subject of its own."""
        for i in range(first, len(self.words)):
            if self.words[i] in _CONNECTORS or i in self.breaks:
                return False
            if i > first and cues.VERB.fullmatch(self.words[i]):
                # "no effusion, pneumothorax is seen": the verb of the whole list
                return self.words[i + 1 : i + 2] not in _LIST_ENDS
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
            if word in OR or word == "and":
                joined, last_join = True, i
            elif word == "," and not joined:
                return i + 1
            elif word == ",":
                last_join = i
            i -= 1
        return 0

    def reached(self, mention: Cue, before: list[Cue], *, lists: bool = True) -> Cue | None:
        """Return the nearest cue before a mention that reaches it."""
        for cue in reversed(before):
            if cue.past <= mention.first and mention.first < self.end_of_reach(
                cue.past, lists=lists
            ):
                return cue
        return None

    def reached_back(self, mention: Cue, after: list[Cue]) -> Cue | None:
        """Return the nearest cue after a mention that reaches it."""
        for cue in after:
            if mention.past <= cue.first and self.start_of_reach(cue.first) <= mention.first:
                return cue
        return None
