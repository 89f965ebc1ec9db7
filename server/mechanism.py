"""Does a committed privacy mechanism meet the round's policy, and is its epsilon the honest one?

A hospital's noise cannot be seen from outside. What can be checked is what it *declares*: that the
mechanism is no weaker than the round's plan asks, and that the cumulative epsilon it charged is
what the canonical accountant gives for everything it has declared since it joined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.epsilon import MICRO, TOLERANCE, cumulative_micro
from ledger.errors import InvalidStatement, PolicyError, PrivacyPolicyViolation
from ledger.statement import Mechanism


@dataclass(frozen=True, kw_only=True)
class MechanismPolicy:
    """The least protection of a round, in the chain's units.

    Attributes:
        noise_multiplier: least noise multiplier, in 1e-6.
        delta: largest delta, in 1e-12.
    """

    noise_multiplier: int
    delta: int

    @classmethod
    def from_config(cls, value: object) -> MechanismPolicy | None:
        """Read the policy from a configuration's ``privacy``; None there means no privacy.

        Raises:
            PolicyError: the table lacks a positive noise multiplier or delta (fails closed).
        """
        if value is None:
            return None
        table = value if isinstance(value, dict) else {}
        numbers: dict[str, float] = {}
        for name in ("noise_multiplier", "delta"):
            found = table.get(name)
            if isinstance(found, bool) or not isinstance(found, int | float) or not found > 0:
                raise PolicyError(f"the round's privacy needs a positive {name}, not {found!r}")
            numbers[name] = float(found)
        return cls(
            noise_multiplier=math.floor(numbers["noise_multiplier"] * 10**6),
            delta=math.ceil(numbers["delta"] * 10**12),
        )


def check_mechanism(
    declared: Mechanism,
    policy: MechanismPolicy | None,
    *,
    earlier: Sequence[Mechanism] = (),
    opening: int = 0,
) -> None:
    """Check one commit's mechanism against the round's policy.

    Args:
        declared: what the hospital committed in this round.
        policy: the round's least protection; None when the round has no privacy.
        earlier: what it committed in earlier rounds, in order (aborted ones too).
        opening: micro-epsilon it brought along when it registered.

    Raises:
        PrivacyPolicyViolation: less noise or a larger delta than asked, parameters that give no
            privacy, or an epsilon below what the declared mechanisms cost.
    """
    if policy is None:
        return
    if declared.noise_multiplier < policy.noise_multiplier or declared.delta > policy.delta:
        raise PrivacyPolicyViolation(
            f"declared noise {declared.noise_multiplier / MICRO:g} and delta"
            f" {declared.delta / 10**12:g} are weaker than the round's"
            f" {policy.noise_multiplier / MICRO:g} and {policy.delta / 10**12:g}"
        )
    try:
        least = cumulative_micro([*earlier, declared], opening)[-1]
    except InvalidStatement as error:
        raise PrivacyPolicyViolation(str(error)) from None
    if declared.epsilon < least - TOLERANCE * MICRO:
        raise PrivacyPolicyViolation(
            f"a cumulative epsilon of {declared.epsilon / MICRO:g} is declared where the declared"
            f" mechanisms cost {least / MICRO:g}"
        )
