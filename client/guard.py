"""Where a hospital's privacy budget meets its rounds: a charge before, a mechanism after.

The hospital's agent knows only this interface, so that a round without privacy and a round with
DP-SGD run through the same steps: the charge is durable *before* any training (a crash must never
give training away), and what goes on the chain is what the guard settled, never what a trainer
says of itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ledger.errors import PolicyError
from ledger.statement import Mechanism


@dataclass(frozen=True, kw_only=True)
class Charge:
    """A budget already taken for one round.

    Attributes:
        round: the round it was taken for.
        mechanism: what will be committed; its epsilon is cumulative and already spent.
    """

    round: int
    mechanism: Mechanism


class PrivacyGuard(Protocol):
    """The hospital's own authority over its budget."""

    def authorise(
        self,
        round: int,  # noqa: A002 - the protocol's word
        config: Mapping[str, object],
        *,
        spent: int,
        cap: int,
    ) -> Charge:
        """Take the budget of one round, durably, before any training; idempotent per round.

        Args:
            round: the round on the chain.
            config: its configuration (already checked against the chain and the policy).
            spent: cumulative micro-epsilon that the chain records for this hospital.
            cap: the hospital's cap on the chain, in micro-epsilon.

        Raises:
            BudgetExhausted: the round would go past the cap.
            AccountantRollback: the chain records more than the local accountant knows.
        """

    def settle(self, charge: Charge, trained: Mechanism) -> Mechanism:
        """Return the mechanism to commit, once training said what it ran.

        Raises:
            PolicyError: training ran something else than was charged.
        """


class NoPrivacy:
    """The guard of a federation without differential privacy: nothing is charged or declared."""

    def authorise(
        self,
        round: int,  # noqa: A002 - the protocol's word
        config: Mapping[str, object],
        *,
        spent: int,  # noqa: ARG002 - the interface's
        cap: int,  # noqa: ARG002 - the interface's
    ) -> Charge:
        """Return an empty charge.

        Raises:
            PolicyError: the round asks for privacy, which this guard cannot give.
        """
        if config.get("privacy") is not None:
            raise PolicyError(
                "the round asks for differential privacy, but this hospital has no accountant"
            )
        return Charge(round=round, mechanism=Mechanism())

    def settle(self, charge: Charge, trained: Mechanism) -> Mechanism:
        """Return the empty mechanism.

        Raises:
            PolicyError: training declares a mechanism that nobody charged.
        """
        if trained != charge.mechanism:
            raise PolicyError("training ran a mechanism that was not charged")
        return charge.mechanism
