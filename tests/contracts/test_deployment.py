"""What the constructor refuses, and what it fixes."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.statement import BASIS
from tests.contracts.evm import Evm, Reverted
from tests.contracts.pair import COORDINATOR, HOSPITALS, RULES, Pair

ZERO = "0x" + "00" * 20
FIELDS = (
    "federation_id",
    "initial_model",
    "privacy_unit",
    "min_accepted_of_commits",
    "min_accepted_of_members",
    "max_silent_share",
    "share_cap",
    "vote_share",
    "min_commit_window",
)


def rules_with(**changes: Any) -> tuple[object, ...]:
    values = dict(zip(FIELDS, RULES.abi(), strict=True)) | changes
    return tuple(values.values())


@pytest.mark.parametrize(
    ("changes", "coordinator", "founders", "error"),
    [
        ({"federation_id": bytes(32)}, COORDINATOR, HOSPITALS[:2], "federationId"),
        ({"initial_model": bytes(32)}, COORDINATOR, HOSPITALS[:2], "initialModel"),
        ({"min_accepted_of_commits": BASIS + 1}, COORDINATOR, HOSPITALS[:2], "rules"),
        ({"min_accepted_of_members": BASIS + 1}, COORDINATOR, HOSPITALS[:2], "rules"),
        ({"share_cap": BASIS + 1}, COORDINATOR, HOSPITALS[:2], "rules"),
        ({"vote_share": BASIS + 1}, COORDINATOR, HOSPITALS[:2], "rules"),
        ({"max_silent_share": BASIS}, COORDINATOR, HOSPITALS[:2], "rules"),
        ({"min_commit_window": 91 * 86400}, COORDINATOR, HOSPITALS[:2], "rules"),
        ({}, ZERO, HOSPITALS[:2], "coordinator"),
        ({}, COORDINATOR, [], "founders"),
        ({}, COORDINATOR, [ZERO], "hospital"),
    ],
)
def test_refused(
    changes: dict[str, Any], coordinator: str, founders: list[str], error: str
) -> None:
    with pytest.raises(Reverted) as refusal:
        Evm(rules_with(**changes), coordinator, founders)
    assert (refusal.value.name, refusal.value.arguments) == ("InvalidArgument", (error,))


def test_founder_listed_twice_is_refused() -> None:
    with pytest.raises(Reverted) as refusal:
        Evm(RULES.abi(), COORDINATOR, [HOSPITALS[0], HOSPITALS[0]])
    assert refusal.value.name == "AlreadyMember"


def test_founders_are_seated_but_inactive() -> None:
    pair = Pair()
    pair.check_state()
    deployed = pair.evm.deployment.event("Deployed")
    assert deployed["rules"] == RULES.abi()
    assert deployed["founders"] == HOSPITALS[:4]
    assert pair.do(COORDINATOR, "openRound", *_honest_opening(pair)) == "InvalidArgument"


def test_two_federations_never_share_a_head() -> None:
    other = RULES.__class__(federation_id=b"\x12" * 32, initial_model=RULES.initial_model)
    assert Pair().evm.call("head") != Pair(rules=other).evm.call("head")


def _honest_opening(pair: Pair) -> tuple[object, ...]:
    return (pair.oracle.head, pair.oracle.model, bytes(32), bytes(32), 1, 60, 60)
