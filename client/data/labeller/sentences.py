"""Sentences and tokens of a report, in one normal form that every later rule reads.

The normal form is lower case, American spelling, written-out abbreviations, and tokens joined by
single spaces with a space at either end, so that patterns need no other white space and words
can be matched whole. De-identification marks (Open-i's XXXX, MIMIC's ___ and [** **]) become the
neutral word "xxxx".
"""

from __future__ import annotations

import re
import unicodedata

from client.data.labeller.spelling import corrected

MAX_TOKENS = 200
"""A longer sentence is cut: no rule reads farther, and time stays linear in the text."""

_DEIDENTIFIED = re.compile(r"\[\*\*[^\]\n]{0,120}\*\*\]|_{2,}|\bx{3,}\b", re.IGNORECASE)
_TOKEN = re.compile(r"\d+(?:\.\d+)*|[a-z]+(?:'[a-z]+)?|[,;:?/()]")
_END = re.compile(r"[.!?]+(?=[\s\"')\]]|$)|(?<=[a-z)])[.!](?=[A-Z])")
_LAST_WORD = re.compile(r"(\S{1,20})$")
_ITEM = re.compile(r"^\s*(?:\(?\d{1,2}[.)]|[-*•·])\s+", re.MULTILINE)
_STATEMENT_LINE = re.compile(r"\n(?=[ \t]*[A-Z])")
_ABBREVIATIONS = frozenset((
    "dr", "mr", "mrs", "ms", "vs", "approx", "e.g", "i.e", "etc", "a.m", "p.m", "st", "fig",
    "resp", "dept", "inc", "cf", "ca", "incl",
))  # fmt: skip
_UNITS = frozenset({"cm", "mm", "in"})

# Written in slashes or with letters that no token would keep; replaced before tokens are cut.
_SHORTHAND: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"\band ?/ ?or\b", " or "),
        (r"\bw ?/ ?o\b", " without "),
        (r"\bs ?/ ?p\b", " status post "),
        (r"\br ?/ ?o\b", " rule out "),
        (r"\bh ?/ ?o\b", " history of "),
        (r"\bc ?/ ?w\b", " consistent with "),
        (r"\bb ?/ ?l\b", " bilateral "),
        (r"\bd ?/ ?t\b|\b2 ?/ ?2\b", " due to "),
        (r"\bw/", " with "),
        (r"\bvs\b\.?", " versus "),
        (r"\bcan't\b|\bcan not\b", " cannot "),
        (r"n't\b", " not"),
    )
)

_WORDS: dict[str, str] = {
    "ptx": "pneumothorax",
    "ptxs": "pneumothoraces",
    "pnx": "pneumothorax",
    "pna": "pneumonia",
    "chf": "congestive heart failure",
    "rul": "right upper lobe",
    "rml": "right middle lobe",
    "rll": "right lower lobe",
    "lul": "left upper lobe",
    "lll": "left lower lobe",
    "ett": "endotracheal tube",
    "ngt": "nasogastric tube",
    "ogt": "orogastric tube",
    "bilat": "bilateral",
    "pulm": "pulmonary",
    "hx": "history",
    "fx": "fracture",
    "fxs": "fractures",
    "wnl": "within normal limits",
    "nl": "normal",
    "nml": "normal",
    "eval": "evaluate",
    "dx": "diagnosis",
    "poss": "possible",
    "prob": "probable",
    "ggo": "ground glass opacity",
    "ggos": "ground glass opacities",
    "cmg": "cardiomegaly",
    "atx": "atelectasis",
    "atel": "atelectasis",
    "consol": "consolidation",
    "eff": "effusion",
    "effs": "effusions",
    "yo": "year old",
    "favour": "favor",
    "favours": "favors",
    "favoured": "favored",
    "favouring": "favoring",
    "grey": "gray",
    "fibre": "fiber",
    "airspace": "air space",
    "airspaces": "air space",
    "groundglass": "ground glass",
    "midlung": "mid lung",
    "nonenlarged": "not enlarged",
}
_SPELLING: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"oedema"), "edema"),
    (re.compile(r"haem"), "hem"),
    (re.compile(r"tumour"), "tumor"),
    (re.compile(r"\b(visual|local|character|recogn|hospital|minim|normal|opac)is(e[ds]?|ing)\b"),
     r"\1iz\2"),
)  # fmt: skip


def split_sentences(text: str) -> list[str]:
    """Split a section's text into sentences, as written.

    A line break alone is no end (reports are hard-wrapped), but a blank line, a list item, and
    a line that begins with a capital after a short unfinished line are.
    """
    pieces: list[str] = []
    for paragraph in re.split(r"\n[ \t\r]{0,80}\n", _ITEM.sub("\n\n", text.replace("\r\n", "\n"))):
        for line in _lines(paragraph):
            pieces += _ends(line)
    return [piece for piece in (" ".join(p.split()) for p in pieces) if piece]


def normal(sentence: str) -> str:
    """Return a sentence's normal form: tokens between single spaces, one space at each end.

    Numbers keep their decimals; hyphens become spaces; punctuation but ``, ; : ? / ( )`` goes.
    At most ``MAX_TOKENS`` tokens are kept.
    """
    return f" {' '.join(tokens(sentence))} "


def tokens(sentence: str) -> list[str]:
    """Return at most ``MAX_TOKENS`` normalised tokens of a sentence."""
    text = unicodedata.normalize("NFKC", sentence[: MAX_TOKENS * 40]).lower()
    text = _DEIDENTIFIED.sub(" xxxx ", text.replace("’", "'"))
    for pattern, written_out in _SHORTHAND:
        text = pattern.sub(written_out, text)
    for pattern, american in _SPELLING:
        text = pattern.sub(american, text)
    found: list[str] = []
    for match in _TOKEN.finditer(text):
        word = match.group()
        found += (_WORDS.get(word) or corrected(word)).split()
        if len(found) >= MAX_TOKENS:
            break
    return found[:MAX_TOKENS]


def _lines(paragraph: str) -> list[str]:
    """Split where a short line ends without punctuation and the next begins a statement."""
    lines: list[str] = []
    for line in _STATEMENT_LINE.split(paragraph):
        last = lines[-1].rsplit("\n", 1)[-1].rstrip() if lines else ""
        wrapped = (
            len(last) > 55 or last.endswith((",", ";", "-", "/")) or last[-3:] in (" of", "and")
        )
        if lines and last and wrapped:
            lines[-1] += "\n" + line
        else:
            lines.append(line)
    return lines


def _ends(text: str) -> list[str]:
    pieces, start = [], 0
    for match in _END.finditer(text):
        if _is_end(text, start, match):
            pieces.append(text[start : match.end()])
            start = match.end()
    return [*pieces, text[start:]]


def _is_end(text: str, start: int, match: re.Match[str]) -> bool:
    before = _LAST_WORD.search(text[max(start, match.start() - 20) : match.start()])
    if before is None:  # nothing but a mark, such as the "?" of "? pneumonia"
        return False
    word = before.group(1).lower().lstrip("([")
    after = text[match.end() :].lstrip()[:1]
    if match.group() == "." and (word in _ABBREVIATIONS or (word in _UNITS and after.islower())):
        return False
    # "1. No effusion": the number of a list item, not a sentence.
    return not (
        word.isdigit()
        and len(word) < 3
        and before.start() == 0
        and not text[start : match.start()].strip(" \n" + word)
    )
