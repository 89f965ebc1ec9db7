"""Does a committed privacy mechanism meet the round's policy, and is its epsilon the honest one?

A hospital's noise cannot be seen from outside. What can be checked is what it *declares*: that the
mechanism is no weaker than the round's plan asks, and that the cumulative epsilon it charged is
what the canonical accountant gives for everything it has declared since it joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.epsilon import MICRO, TOLERANCE, cumulative_micro
from ledger.errors import InvalidStatement, PolicyError, PrivacyPolicyViolation
from ledger.statement import Mechanism

_FIELDS = ("noise_multiplier", "sample_rate", "steps", "delta")


@dataclass(frozen=True, kw_only=True)
class MechanismPolicy:
    """The least protection of a round, in the chain's units.

    Attributes:
        noise_multiplier: least noise multiplier, in 1e-6.
        sample_rate: largest sampling rate, in 1e-9.
        steps: most steps in the round.
        delta: largest delta, in 1e-12.
    """

    noise_multiplier: int
    sample_rate: int
    steps: int
    delta: int

    @classmethod
    def from_config(cls, value: object) -> MechanismPolicy | None:
        """Read the policy from a configuration's ``privacy``; None there means no privacy.

        Raises:
            PolicyError: a field is missing or not a whole number above 0 (fails closed).
        """
        if value is None:
            return None
        table = value if isinstance(value, dict) else {}
        numbers: dict[str, int] = {}
        for name in _FIELDS:
            found = table.get(name)
            if isinstance(found, bool) or not isinstance(found, int) or found < 1:
                raise PolicyError(
                    f"the round's privacy needs a whole {name} above 0, not {found!r}"
                )
            numbers[name] = found
        return cls(**numbers)

    def weaker(self, declared: Mechanism) -> str | None:
        """Return the first parameter in which a declared mechanism protects less, if any."""
        if declared.noise_multiplier < self.noise_multiplier:
            return "noise_multiplier"
        over = (n for n in _FIELDS[1:] if getattr(declared, n) > getattr(self, n))
        return next(over, None)


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
        PrivacyPolicyViolation: less noise, or a larger rate, delta or number of steps than asked; a
            list instead of one mechanism; parameters that give no privacy; or an epsilon below
            what the declared ones cost.
    """
    if policy is None:
        return
    if declared.list_digest != bytes(32):
        raise PrivacyPolicyViolation(
            "a list of mechanisms is declared, where the round asks for the one it planned"
        )
    name = policy.weaker(declared)
    if name is not None:
        raise PrivacyPolicyViolation(
            f"the declared {name} of {getattr(declared, name)} protects less than the round's"
            f" {getattr(policy, name)}"
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
