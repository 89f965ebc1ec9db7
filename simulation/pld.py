"""A tighter epsilon, for information: privacy-loss distributions by Google's dp_accounting."""

from __future__ import annotations

from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant

from ledger.epsilon import Release


def pld_epsilon(release: Release, delta: float) -> float:
    """Return the PLD accountant's epsilon of one release (add or remove one unit)."""
    accountant = PLDAccountant()
    step = dp_event.PoissonSampledDpEvent(
        release.sample_rate, dp_event.GaussianDpEvent(release.noise_multiplier)
    )
    accountant.compose(dp_event.SelfComposedDpEvent(step, release.steps))
    return float(accountant.get_epsilon(delta))
