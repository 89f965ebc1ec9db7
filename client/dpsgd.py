"""DP-SGD over patients: Poisson-sample patients, then one uniform image of each.

Abadi et al. 2016, with the unit of privacy of McMahan et al. 2018: one *patient* contributes at
most one clipped gradient to a step, however many images the release has of them, so that epsilon
is per patient. With ``unit="image"`` every image is drawn on its own.

The mean's denominator is public (sample rate times a bucketed count), the batch's true size is
not used. An empty draw is a step of pure noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Generator, nn

from client.checkpoint import Checkpoint
from client.dp_course import Course
from client.dp_gradients import gradients_of
from client.dp_modules import check_phases
from client.dp_oracle import check_uncoupled
from client.dp_step import Augment, BatchOf, PrivatePlan, PrivateSteps
from client.learners.phase import Phase
from client.noise import Keystream
from client.optimisers import FreeSteps
from client.privacy_plan import MIN_COHORT
from ledger.errors import CohortTooSmall

__all__ = ["PrivateOutcome", "PrivatePlan", "UnitSampler", "check_cohort", "train_private"]


@dataclass(frozen=True, kw_only=True)
class PrivateOutcome:
    """What a round of DP-SGD did; ``drawn`` and ``refused`` are private to the hospital."""

    steps: int
    drawn: int
    refused: int
    insecure: bool


def check_cohort(units: NDArray[np.int64]) -> None:
    """Refuse private training on fewer units than ``MIN_COHORT``.

    Args:
        units: for each image, the unit (patient) it belongs to, shape (N,).

    Raises:
        CohortTooSmall: there are fewer.
    """
    found = len(np.unique(units))
    if found < MIN_COHORT:
        raise CohortTooSmall(
            f"{found} patients are too few for private training: at least {MIN_COHORT}"
        )


class UnitSampler:
    """Poisson sampling of units, one uniform image each.

    Args:
        units: for each image, the unit (patient) it belongs to, shape (N,).
        rate: probability of each unit in a draw.
        keystream: secret randomness.

    Raises:
        CohortTooSmall: fewer units than ``MIN_COHORT``.
    """

    def __init__(self, units: NDArray[np.int64], rate: float, keystream: Keystream) -> None:
        _, inverse, counts = np.unique(units, return_inverse=True, return_counts=True)
        check_cohort(units)
        self._images = np.argsort(inverse, kind="stable")
        self._starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        self._counts = counts.astype(np.int64)
        self._rate = rate
        self._keystream = keystream
        self.size = len(counts)

    def draw(self) -> NDArray[np.int64]:
        """Return the image indices of one draw, at most one a unit (may be empty)."""
        chosen = np.flatnonzero(self._keystream.bernoulli(self.size, self._rate))
        offsets = self._keystream.below(self._counts[chosen])
        picked: NDArray[np.int64] = self._images[self._starts[chosen] + offsets]
        return picked


def train_private(
    module: nn.Module,
    phase: Phase,
    batch_of: BatchOf,
    units: NDArray[np.int64],
    plan: PrivatePlan,
    *,
    public_units: int,
    input_shape: tuple[tuple[int, int, int], int],
    keystream: Keystream,
    draws: Generator | None = None,
    free: FreeSteps | None = None,
    augment: Augment | None = None,
    rate_share: Callable[[str], float] = lambda _name: 1.0,
    progress: Callable[[int, int], None] | None = None,
    checkpoint: Checkpoint | None = None,
    motion: Generator | None = None,
) -> PrivateOutcome:
    """Train ``module`` in place for one round.

    Args:
        module: in any mode; left in evaluation mode.
        phase: what is trained, and on which loss. The loss must not couple images, which the
            microbatch oracle looks at before anything is drawn.
        batch_of: from image indices to images (B, 1, S, S) and labels (B, L).
        units: the patient of each image, shape (N,).
        plan: what to run; its mechanism is what the accountant was charged.
        input_shape: ((C, S, S), L) for the microbatch oracle's random images.
        public_units: bucketed number of units, the public part of the mean's denominator.
        keystream: secret randomness for which units a step takes, and for the noise.
        draws: where the phase's own random choices come from; seeded as secretly as the noise
            (docs/adr/0011-privacy.md).
        free: steps on generated input alone, after each private step; it costs no privacy.
        augment: random transformation of images, for ``plan.multiplicity`` above 1.
        rate_share: share of the learning rate of each named parameter. Clipping and noise are the
            same whatever it is: it only scales what the optimiser does with the released sum.
        progress: called with (steps done, steps).
        checkpoint: where a long round is put down and taken up (`client.dp_course`); or nowhere.
        motion: the generator that ``augment`` draws from, put down with the rest.

    Raises:
        UnsupportedModule: the module couples samples by construction (batch norm).
        CoupledSamples: the oracle saw a loss, draws or a module that couples samples.
        CohortTooSmall: too few patients.
        NonFiniteGradient: a clipped sum is not finite.
    """
    check_phases(module, (phase,))  # before the oracle, whose answer about batch norm is obscure
    sampler = UnitSampler(units, plan.sample_rate, keystream)
    shape, labels = input_shape
    check_uncoupled(module, phase, image_shape=shape, labels=labels)
    drawing = draws or Generator()
    steps = PrivateSteps(
        gradients_of(module, phase, drawing),
        batch_of,
        plan,
        public_units=public_units,
        keystream=keystream,
        augment=augment,
        rate_share=rate_share,
    )
    generators = {"draws": drawing, "motion": motion, "free": free.generator if free else None}
    course = Course(
        module=module,
        optimiser=steps.optimiser,
        checkpoint=checkpoint,
        others={"free": free.optimiser} if free else {},
        generators={name: each for name, each in generators.items() if each is not None},
    )
    drawn = course.take_up()
    try:
        for step in range(course.done, plan.steps):
            indices = sampler.draw()
            drawn += len(indices)
            steps.take(indices)
            if free is not None:
                free.after(step + 1, (step + 0.5) / plan.steps)
            course.put_down(step + 1, drawn)
            if progress is not None:
                progress(step + 1, plan.steps)
    finally:
        steps.close()
        module.eval()
    return PrivateOutcome(
        steps=plan.steps,
        drawn=drawn,
        refused=steps.optimiser.refused_samples,
        insecure=keystream.insecure,
    )
