"""Gas is part of the interface: any change shows in ``contracts/gas.json``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contracts.gas import DOCUMENTS, SNAPSHOT, measure, with_table

TARGETS = {
    "later_open": 75_000,
    "first_open": 75_000,
    "later_commit": 63_800,
    "first_commit": 63_800,
    "later_propose": 345_000,
    "first_propose": 345_000,
    "later_attest": 38_900,
    "first_attest": 38_900,
    "later_round_of_9": 1_340_000,
    "first_round_of_9": 1_340_000,
    "further_hospital": 110_000,
    "code_bytes": 24_576,
}
"""A throw-away prototype's figures, the aim for a further hospital, and EIP-170's limit."""


@pytest.fixture(scope="module")
def measured() -> dict[str, int]:
    return measure()


def test_gas_is_that_of_the_snapshot(measured: dict[str, int]) -> None:
    snapshot = json.loads(SNAPSHOT.read_text(encoding="ascii"))
    assert measured == snapshot, "renew it with `python -m tests.contracts.gas --write`"


@pytest.mark.parametrize("call", TARGETS)
def test_gas_is_within_its_target(measured: dict[str, int], call: str) -> None:
    assert measured[call] <= TARGETS[call]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_the_documents_show_the_snapshot(document: Path) -> None:
    snapshot = json.loads(SNAPSHOT.read_text(encoding="ascii"))
    text = document.read_text(encoding="utf-8")
    assert with_table(text, snapshot) == text, "run `python -m tests.contracts.gas --write`"
