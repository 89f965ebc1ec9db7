"""The guard of a hospital under differential privacy: its accountant, as its agent sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from client.accountant import Accountant
from client.guard import Charge
from client.privacy_plan import PrivacyPlan
from ledger.errors import ConfigError, PolicyError, PolicyViolation
from ledger.statement import Mechanism, Unit


class PrivacyAccountGuard:
    """Charges every round before it is trained (see :class:`client.guard.PrivacyGuard`).

    Args:
        path: the accountant's file in the hospital's home.
        unit: whom the federation's privacy protects; a round that offers another is refused.
        opening: micro-epsilon spent before this federation.
        federation: whose rounds the accountant counts (see :class:`client.accountant.Accountant`).

    Raises:
        PolicyError: the accountant is another federation's.
    """

    def __init__(
        self,
        path: Path,
        *,
        unit: Unit = Unit.PATIENT,
        opening: int = 0,
        federation: str = "",
    ) -> None:
        self._unit = unit
        self.accountant = Accountant(path, opening=opening, federation=federation)

    def authorise(
        self,
        round: int,  # noqa: A002 - the protocol's word
        config: Mapping[str, object],
        *,
        spent: int,
        cap: int,
    ) -> Charge:
        """Charge the round its configuration describes, durably, before any training.

        Raises:
            PolicyViolation: the configuration offers no privacy, or for another unit.
            AccountantRollback: the chain records more than the accountant.
            BudgetExhausted: the round would go past the cap.
        """
        offered = config.get("privacy")
        if not isinstance(offered, Mapping):
            raise PolicyViolation("the round offers no differential privacy; this hospital asks it")
        try:
            plan = PrivacyPlan.from_config(offered)
        except ConfigError as error:
            raise PolicyViolation(str(error)) from None
        if plan.unit is not self._unit:
            raise PolicyViolation(
                f"the round protects each {plan.unit.name.lower()}, this hospital asks for"
                f" each {self._unit.name.lower()}"
            )
        run = Mechanism(
            noise_multiplier=plan.noise_multiplier,
            sample_rate=plan.sample_rate,
            steps=plan.steps,
            delta=plan.delta,
        )
        charged = self.accountant.charge(round, run, on_chain=spent, cap=cap)
        return Charge(round=round, mechanism=charged)

    def settle(self, charge: Charge, trained: Mechanism) -> Mechanism:
        """Return the charged mechanism, if that is what training ran.

        Raises:
            PolicyError: training ran something else.
        """
        left, right = charge.mechanism, trained
        if (left.noise_multiplier, left.sample_rate, left.steps, left.delta) != (
            right.noise_multiplier,
            right.sample_rate,
            right.steps,
            right.delta,
        ):
            raise PolicyError("training ran a mechanism that was not charged")
        return charge.mechanism
