"""Misspelt names: set right where they can mean one thing only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data.labeller.spelling import NAMES, corrected, edits

WORDS = st.text(st.sampled_from("aefnpu"), max_size=8)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("pneumothorx", "pneumothorax"),
        ("pnuemothorax", "pneumothorax"),
        ("pnemothorx", "pneumothorax"),
        ("efusion", "effusion"),
        ("atelectesis", "atelectasis"),
        ("consoldation", "consolidation"),
        ("cardiomegally", "cardiomegaly"),
        ("opactities", "opacities"),
        ("diffusion", "diffusion"),
        ("infusion", "infusion"),
        ("module", "module"),
        ("pneumonectomy", "pneumonectomy"),
        ("pneumonitis", "pneumonitis"),
        ("emphasis", "emphasis"),
        ("mediastinotomy", "mediastinotomy"),
    ],
)
def test_what_is_meant(word: str, meant: str) -> None:
    assert corrected(word) == meant


def test_right_names_stay() -> None:
    assert {corrected(name) for name in NAMES} == NAMES


@given(WORDS, WORDS, WORDS)
def test_edits_are_a_distance(one: str, other: str, third: str) -> None:
    assert edits(one, other) == edits(other, one)
    assert (edits(one, other) == 0) == (one == other)
    assert edits(one, other) <= max(len(one), len(other))
    assert edits(one + third, other + third) <= edits(one, other)


def test_a_swap_is_one_edit() -> None:
    assert edits("pnuemo", "pneumo") == 1
    assert edits("abc", "cab") == 2
