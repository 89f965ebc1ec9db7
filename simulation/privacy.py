"""A run's privacy, from its settings: the mechanism, and what its noise does to an update.

All of it is public and fixed before the run starts: it stands in every round's configuration.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from client.learners.interface import Learner
from client.privacy_plan import MIN_COHORT, PrivacyPlan, plan_noise
from client.train import TrainPlan
from ledger.errors import CohortTooSmall, ConfigError, UnsupportedModule
from ledger.manifest import Manifest
from ledger.statement import Unit
from simulation.settings import Settings

_COORDINATES = 4096
OFF = "or train without privacy: --epsilon off"


@dataclass(frozen=True, kw_only=True)
class RunPrivacy:
    """What a private run plans.

    Attributes:
        plan: the mechanism of every round.
        config: the round configuration's ``privacy``.
        coordinate_noise: deviation of the noise on one coordinate of a round's delta (0: unknown),
            in the round with the largest learning rate.
        least_noise: the same in the round with the smallest.
        coordinate_drift: largest honest change of one coordinate beside its noise.
        cap: micro-epsilon each hospital allows itself: the target, rounded up.
        insecure: the noise comes from a known seed (tests only).
    """

    plan: PrivacyPlan
    config: dict[str, Any]
    coordinate_noise: float
    least_noise: float
    coordinate_drift: float
    cap: int
    insecure: bool


def privacy_of(settings: Settings, train: TrainPlan, span: int = 0) -> RunPrivacy | None:
    """Return the privacy of a run, or of one of its phases; None where it is off.

    Args:
        settings: of the run, or as they are in the phase; their rounds are the run's, since one
            mechanism holds in all of them.
        train: the local training plan.
        span: rounds over which the learning rate follows its schedule; 0: all of the run's.

    Raises:
        ConfigError: the target cannot be reached, or see ``check_private``.
    """
    if not settings.epsilon:
        return None
    check_private(settings, train)
    plan = plan_noise(
        epsilon=settings.epsilon,
        delta=settings.delta,
        sample_rate=settings.sample_rate,
        steps=settings.steps,
        rounds=settings.rounds,
        unit=Unit[settings.unit.upper()],
    )
    noise, least, drift = 0.0, 0.0, settings.coordinate_drift
    if train.optimiser != "sgd":
        rounds = span or settings.rounds
        numbers = range(1, rounds + 1)
        rates = [train.for_round(number, rounds).rate(0.5) for number in numbers]
        noise, least = (
            adam_noise(rate, settings.steps, train.betas) for rate in (max(rates), min(rates))
        )
        drift = min(drift, 2 * max(rates) * settings.steps)
    return RunPrivacy(
        plan=plan,
        config={
            **plan.to_config(),
            "clip_norm": settings.clip_norm,
            "multiplicity": settings.multiplicity,
            "physical_batch": settings.batch_size,
        },
        coordinate_noise=noise,
        least_noise=least,
        coordinate_drift=drift,
        cap=math.ceil(settings.epsilon * 10**6),
        insecure=settings.insecure_noise,
    )


def check_private(settings: Settings, train: TrainPlan) -> None:
    """Refuse a training plan that a private run cannot follow; of others all can be.

    Raises:
        ConfigError: the optimiser has no private form, copies of an image are to be averaged that
            do not differ, logits are adjusted by private counts, or passes divided where there are
            none.
    """
    if not settings.epsilon:
        return
    if train.optimiser not in {"adamw", "adam", "sgd"}:
        raise ConfigError("private training uses adamw, adam or sgd")
    if train.parts > 1:
        raise ConfigError(
            "parts divides passes over images, so it is for runs without privacy (epsilon off):"
            " a private round has as many steps as the setting steps says"
        )
    if train.logit_adjustment:
        raise ConfigError(
            "logit_adjustment counts each hospital's private labels, so it is for runs without"
            " privacy (epsilon off)"
        )
    if settings.multiplicity > 1 and not train.augmentation.moves:
        raise ConfigError(
            "a multiplicity above 1 averages augmented copies of an image: say how they move in"
            " train_options, e.g. augmentation = { shift = 0.05 }"
        )


def check_learner(settings: Settings, learner: Learner) -> None:
    """Refuse a private run of a learner that has no per-sample gradients.

    Raises:
        UnsupportedModule: names the layer, what to use instead, and how to go without privacy.
    """
    if not settings.epsilon:
        return
    from client.dp_modules import check_phases  # Opacus takes seconds: only for private runs

    try:
        phases = [learner.phase(name) for name in learner.phases]
        check_phases(learner.build(settings.seed), phases)
    except UnsupportedModule as error:
        raise UnsupportedModule(
            f"learner {settings.learner} cannot be trained privately: {error};"
            f" choose another, {OFF}"
        ) from None


def check_cohorts(settings: Settings, units: Sequence[int]) -> None:
    """Refuse a private run in which a hospital has too few patients (or images) to train on.

    Args:
        settings: of the run.
        units: how many patients (with ``unit = "image"``: images) each hospital trains on.

    Raises:
        CohortTooSmall: says which hospital, how many it has and how to go without privacy.
    """
    if not settings.epsilon or min(units) >= MIN_COHORT:
        return
    least = min(units)
    raise CohortTooSmall(
        f"hospital {units.index(least)} would train privately on {least} {settings.unit}s, fewer"
        f" than {MIN_COHORT}: give more patients or fewer hospitals, {OFF}"
    )


def announced(settings: Settings, privacy: RunPrivacy | None, units: Sequence[int]) -> str:
    """Return the sentence that tells, before a run, what its privacy will be."""
    if privacy is None:
        return "Without differential privacy (epsilon is off): for public images only"
    release = privacy.plan.release()
    low, high = (round(count * release.sample_rate) for count in (min(units), max(units)))
    batch = f"about {low}" if low == high else f"about {low} to {high}"
    return (
        f"Privacy: epsilon {settings.epsilon:g} for each {settings.unit} of a hospital over the"
        f" whole run, at delta {settings.delta:g}; noise multiplier"
        f" {release.noise_multiplier:.3f} on {batch} {settings.unit}s a step"
    )


def share_of(learner: Learner, update: Manifest, trained: Collection[str]) -> float:
    """Return the root mean square, over all that travels, of its shares of the learning rate.

    The noise of an update has this share of the norm it would have at the full rate.

    Args:
        learner: of the round.
        update: manifest of what travels.
        trained: names of the parameters that images train: only they bear noise.
    """
    squares = (
        t.size * learner.rate_share(t.name) ** 2 for t in update.tensors if t.name in trained
    )
    return math.sqrt(sum(squares) / update.size)


def adam_noise(
    learning_rate: float, steps: int, betas: tuple[float, float] = (0.9, 0.999)
) -> float:
    """Return the deviation of one coordinate after Adam has followed pure noise for some steps.

    Adam divides by the gradient's own scale, so it does not depend on noise multiplier, clipping
    norm or the hospital's size; it is measured on unit noise, with a fixed seed.
    """
    generator = torch.Generator().manual_seed(0)
    coordinate = torch.zeros(_COORDINATES, requires_grad=True)
    optimiser = torch.optim.AdamW([coordinate], lr=learning_rate, betas=betas, weight_decay=0.0)
    for _ in range(steps):
        coordinate.grad = torch.randn(_COORDINATES, generator=generator)
        optimiser.step()
    return float(coordinate.detach().std())
