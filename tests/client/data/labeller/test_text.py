"""Sections, sentences and tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data.labeller.aggregate import COLUMNS, label_report
from client.data.labeller.sections import reading, split_sections
from client.data.labeller.sentences import MAX_TOKENS, normal, split_sentences, tokens
from client.data.records import ABSENT, PRESENT, UNCERTAIN, UNKNOWN

MIMIC = """                                 FINAL REPORT
 INDICATION:  ___ year old woman with pneumonia, evaluate for effusion.

 COMPARISON:  Radiograph with pneumothorax from ___.

 FINDINGS:  There is a small left pleural
 effusion. Heart size is normal.

 IMPRESSION:  1.  Small effusion.
 2.  No pneumothorax.
"""


def test_context_sections_label_nothing() -> None:
    labels = label_report(MIMIC)
    assert labels["Effusion"] == PRESENT
    assert labels["Pneumothorax"] == ABSENT
    assert labels["Cardiomegaly"] == ABSENT
    assert labels["Pneumonia"] == UNKNOWN
    assert labels["No_Finding"] == UNKNOWN


def test_sections_in_order() -> None:
    assert [s.kind for s in split_sections(MIMIC)] == [
        "context",
        "context",
        "findings",
        "impression",
    ]


def test_unnamed_reading_after_context() -> None:
    report = "HISTORY: pneumonia.\n\nThe heart is enlarged.\nNo edema."
    assert label_report(report)["Pneumonia"] == UNKNOWN
    assert label_report(report)["Cardiomegaly"] == PRESENT


def test_unnamed_reading_in_one_line() -> None:
    report = "HISTORY: Pneumonia. COMPARISON: Effusion, 1 May. The heart is enlarged. No edema."
    labels = label_report(report)
    assert labels["Pneumonia"] == labels["Effusion"] == UNKNOWN
    assert labels["Cardiomegaly"] == PRESENT
    assert labels["Edema"] == ABSENT


def test_unnamed_findings_before_an_impression() -> None:
    report = "HISTORY: Edema.\n\nCOMPARISON: None.\n\nSmall effusion.\n\nIMPRESSION: No mass."
    labels = label_report(report)
    assert labels["Edema"] == UNKNOWN
    assert labels["Effusion"] == PRESENT
    assert labels["Mass"] == ABSENT
    assert label_report("Comparison: None. Effusion. Impression: Stable.")["Effusion"] == PRESENT


def test_history_and_reading_in_one_line() -> None:
    labels = label_report("Clinical history: pneumonia. Small effusion. No edema.")
    assert labels["Pneumonia"] == UNKNOWN
    assert labels["Effusion"] == PRESENT
    assert labels["Edema"] == ABSENT


def test_an_empty_reading_leaves_the_history_unread() -> None:
    report = "INDICATION: Cough. Pneumonia.\n\nFINDINGS: \n\nIMPRESSION: "
    assert set(label_report(report).values()) == {UNKNOWN}


def test_headings_in_one_line() -> None:
    report = "Indication: pneumonia. Comparison: effusion. Findings: Edema."
    assert reading(report) == [" Edema."]


def test_words_that_are_no_headings() -> None:
    report = "There is a history: see above. Technique is fine; Lungs: No effusion."
    assert label_report(report)["Effusion"] == ABSENT


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("No effusion. No edema.", 2),
        ("A 1.2 cm nodule. Stable.", 2),
        ("1. No effusion.\n2. No edema.", 2),
        ("Tip 4 cm. above the carina, seen by Dr. Roe at 5 p.m. today.", 1),
        ("Heart normal.Lungs clear.", 2),
        ("There is a small left pleural\neffusion.", 1),
        ("HEART SIZE NORMAL\nLUNGS CLEAR", 2),
        ("atelectasis vs. pneumonia", 1),
        ("? pneumonia", 1),
        ("", 0),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert len(split_sentences(text)) == count


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (
            "Oedema w/o PTX, XXXX ___ [**2101-3-4**]",
            " edema without pneumothorax , xxxx xxxx xxxx ",
        ),
        ("b/l effusions c/w CHF", " bilateral effusions consistent with congestive heart failure "),
        ("Can't exclude RLL PNA", " cannot exclude right lower lobe pneumonia "),
        ("airspace air-space", " air space air space "),
    ],
)
def test_normal_form(text: str, form: str) -> None:
    assert normal(text) == form


def test_long_sentence_is_cut() -> None:
    assert len(tokens("word " * 10_000)) == MAX_TOKENS


@given(st.text(max_size=400))
def test_any_text_gets_labels(text: str) -> None:
    labels = label_report(text)
    assert tuple(labels) == COLUMNS
    assert set(labels.values()) <= {PRESENT, ABSENT, UNCERTAIN, UNKNOWN}


CUES = [
    *("no", "without", "not", "is", "seen", "may", "be", "cannot", "exclude", "the", "size"),
    *("effusion", "heart", "mediastinal", "pleural", "thickening", "vascular", "congestion"),
    *("normal", "and", "or", "with", "?", ":", "/", ",", ".", "\n"),
]


@given(
    st.lists(
        st.sampled_from(CUES),
        max_size=60,
    )
)
def test_any_order_of_cues_is_read(words: list[str]) -> None:
    label_report(" ".join(words))


@pytest.mark.parametrize(
    "unit",
    ["pulmonary ", "thickening of the ", "history ", "[**", "\n \t", "A", "1.", "density a "],
)
def test_repetition_does_not_blow_up(unit: str) -> None:
    # Exponential or cubic matching would hit the test's time limit.
    label_report(unit * (100_000 // len(unit)))


def test_states_rank() -> None:
    assert label_report("Effusion. No effusion.")["Effusion"] == PRESENT
    assert label_report("No effusion. Possible effusion.")["Effusion"] == UNCERTAIN
    assert label_report("Blunted costophrenic angle. No effusion.")["Effusion"] == ABSENT
    assert label_report("Heart is stable. Heart size is normal.")["Cardiomegaly"] == ABSENT


def test_no_finding() -> None:
    assert label_report("Lungs are clear. PICC in place.")["No_Finding"] == PRESENT
    assert label_report("Possible edema.")["No_Finding"] == UNKNOWN
    assert label_report("INDICATION: edema.")["No_Finding"] == UNKNOWN
    assert label_report("")["No_Finding"] == UNKNOWN
