from __future__ import annotations

from dataclasses import replace

import pytest

from ledger.epsilon import cumulative_micro
from ledger.errors import PolicyError, PrivacyPolicyViolation
from ledger.statement import Mechanism
from server.mechanism import MechanismPolicy, check_mechanism

CONFIG: dict[str, object] = {
    "unit": "patient",
    "noise_multiplier": 10**6,
    "sample_rate": 10**7,
    "steps": 20,
    "rounds": 5,
    "delta": 10**7,
}
RUN = Mechanism(noise_multiplier=10**6, sample_rate=10**7, steps=20, delta=10**7)


def charged(rounds: int = 1) -> list[Mechanism]:
    totals = cumulative_micro([RUN] * rounds)
    return [replace(RUN, epsilon=total) for total in totals]


def policy() -> MechanismPolicy:
    found = MechanismPolicy.from_config(CONFIG)
    assert found is not None
    return found


def test_an_honest_history_passes() -> None:
    first, second = charged(2)
    check_mechanism(first, policy())
    check_mechanism(second, policy(), earlier=[first])
    check_mechanism(replace(first, epsilon=first.epsilon + 500_000), policy(), opening=500_000)


def test_without_privacy_nothing_is_asked() -> None:
    assert MechanismPolicy.from_config(None) is None
    check_mechanism(Mechanism(), None)


@pytest.mark.parametrize(
    "change",
    [
        {"noise_multiplier": 10**6 - 1},
        {"sample_rate": 10**7 + 1},
        {"steps": 21},
        {"delta": 10**7 + 1},
        {"noise_multiplier": 0, "sample_rate": 0, "steps": 0, "delta": 0},
        {"steps": 0},
        {"list_digest": b"l" * 32},
    ],
)
def test_less_protection_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(PrivacyPolicyViolation):
        check_mechanism(replace(charged()[0], **change), policy())  # type: ignore[arg-type]


def test_a_charge_below_the_cost_is_refused() -> None:
    first, second = charged(2)
    with pytest.raises(PrivacyPolicyViolation, match="cost"):
        check_mechanism(replace(second, epsilon=first.epsilon + 1), policy(), earlier=[first])


@pytest.mark.parametrize("name", ["noise_multiplier", "sample_rate", "steps", "delta"])
@pytest.mark.parametrize("value", [None, 0, -1, True, 1.5, "1"])
def test_a_misconfigured_policy_lets_nothing_pass(name: str, value: object) -> None:
    with pytest.raises(PolicyError):
        MechanismPolicy.from_config(CONFIG | {name: value})
