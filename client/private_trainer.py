"""The trainer of a hospital under differential privacy: DP-SGD by patients on its own images.

What it runs is what its guard was charged for: the mechanism is rebuilt from the same fields of
the configuration, and the guard refuses to settle anything else. Its metrics are empty: losses
and counts are functions of private data that nobody charged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from client.checkpoint import Desk
from client.data.uncertainty import Policy
from client.data_terms import DataTerms, check_data
from client.dp_modules import check_phases
from client.dpsgd import PrivatePlan, check_cohort, train_private
from client.learners.augment import augment
from client.learners.determinism import deterministic
from client.learners.device import choose, placed
from client.learners.exchange import module_to_model
from client.learners.inputs import standardise
from client.noise import Keystream
from client.optimisers import free_steps
from client.privacy_plan import PrivacyPlan
from client.roles import Config, TrainedUpdate
from client.train import DRAWS, DROPOUT, FREE, MOTION, seed_of
from client.trainer import (
    fits,
    learner_of,
    only_plain,
    phase_of,
    plan_of,
    start_from,
    travelling,
)
from ledger.errors import ConfigError, PolicyViolation
from ledger.manifest import Model
from ledger.quantise import bucket_weight
from ledger.statement import Mechanism, Unit

EXTRA = ("clip_norm", "multiplicity", "physical_batch")
"""Fields of the configuration's ``privacy`` beside the mechanism: none changes its epsilon."""
MAX_MULTIPLICITY = 64
MAX_PHYSICAL_BATCH = 4096


@dataclass(frozen=True, kw_only=True)
class PrivateTrainer:
    """Trains with privacy on this hospital's own images.

    Attributes:
        pixels: (N, 1, S, S) uint8.
        labels: (N, L) int8 of 1, 0, -1 (unknown) and -2 (uncertain).
        patients: (N,) int64, the patient of each image.
        insecure_seed: a known seed for the noise (tests only; the run is then marked so).
        progress: called with (steps done, steps).
        note: told, for the hospital's own log, what must not leave it.
        terms: how the images were prepared and what the labels are; None if not known.
        desk: where a long round is put down; None: nowhere.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    labels: NDArray[np.int8] = field(repr=False)
    patients: NDArray[np.int64] = field(repr=False)
    insecure_seed: int | None = None
    progress: Callable[[int, int], None] | None = None
    note: Callable[[str], None] | None = None
    terms: DataTerms | None = None
    desk: Desk | None = None

    def forget(self) -> None:
        """Forget the checkpoint: the update it led to is durable."""
        if self.desk is not None:
            self.desk.clear()

    def check(self, config: Config) -> None:
        """Refuse what cannot be trained here, before any budget is spent.

        Raises:
            PolicyViolation: a field is unknown, missing or out of range; or a patient's labels
                came from a model of the others.
            DataMismatch: the round means other findings or preprocessing than these data's.
            UnsupportedModule: the model couples samples by construction (batch norm).
            CohortTooSmall: too few patients.
        """
        check_data(self.terms, config)
        if self.terms is not None and self.terms.uncertain == Policy.SELFTRAINED:
            raise PolicyViolation(
                "self-trained labels make one patient's training depend on the others: not private"
            )
        learner = learner_of(config)
        fits(learner, self.terms)
        only_plain(learner, plan_of(config))
        _, _, unit = private_plan_of(config)
        phase = phase_of(learner, config)
        travelling(learner, phase, config)
        check_phases(learner.build(0), (phase,))
        check_cohort(self._units(unit))

    def __call__(self, base: Model, config: Config, seed: int, /) -> TrainedUpdate:
        """Return the model after one private round.

        Args:
            base: the model to start from.
            config: the round's configuration.
            seed: of a test's keystream (``insecure_seed``); fixes nothing where noise is secret.

        Raises:
            PrivacyError: too few patients, or a module or loss that couples samples.
            SpecMismatch: the base is not a model of the round's learner.
        """
        plan, mechanism, unit = private_plan_of(config)
        learner, module = start_from(base, config)
        phase, local, units = phase_of(learner, config), plan_of(config), self._units(unit)
        names = travelling(learner, phase, config)
        keystream = self._keystream(seed)
        # Images move and are drawn for in the order of a batch, so one patient more shifts what the
        # others get. Who knew this seed would see that; with a secret one, what the others get is
        # as likely as what they would have had, and the patient's own term is all that differs.
        hidden = keystream.seed()
        motion, draws, generated = (
            Generator().manual_seed(seed_of(hidden, stream)) for stream in (MOTION, DRAWS, FREE)
        )
        moves, device = local.augmentation.moves, choose()

        def moved(images: Tensor) -> Tensor:
            return augment(images, local.augmentation, motion)

        def batch_of(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
            images = standardise(torch.from_numpy(self.pixels[rows]).to(device))
            if moves and plan.multiplicity == 1:
                images = moved(images)
            return images, torch.from_numpy(self.labels[rows]).to(device)

        dropped = seed_of(hidden, DROPOUT)
        seeded = deterministic(seed=dropped, threads=local.threads, device=device)
        with seeded, placed(module, device):
            outcome = train_private(
                module,
                phase,
                batch_of,
                units,
                plan,
                public_units=bucket_weight(len(np.unique(units))),
                input_shape=(
                    (learner.channels, learner.input_size, learner.input_size),
                    learner.labels,
                ),
                keystream=keystream,
                draws=draws,
                free=free_steps(
                    module, learner, phase, local, generator=generated, count=local.batch_size
                ),
                augment=moved if moves else None,
                rate_share=learner.rate_share,
                progress=self.progress,
                checkpoint=self.desk.checkpoint(base, config, seed) if self.desk else None,
                motion=motion,
            )
        if outcome.refused and self.note is not None:
            self.note(f"{outcome.refused} gradients were not finite and counted as zero")
        return TrainedUpdate(model=module_to_model(module, names), mechanism=mechanism)

    def _units(self, unit: Unit) -> NDArray[np.int64]:
        """Return the unit of privacy that each image belongs to, (N,)."""
        return self.patients if unit is Unit.PATIENT else np.arange(len(self.patients))

    def _keystream(self, round_seed: int) -> Keystream:
        if self.insecure_seed is None:
            return Keystream()
        return Keystream.insecure_test(self.insecure_seed, round_seed)


def private_plan_of(config: Config) -> tuple[PrivatePlan, Mechanism, Unit]:
    """Return what a configuration's round runs, what that is on the chain, and for whom.

    Raises:
        PolicyViolation: the configuration has no such plan.
    """
    offered = config.get("privacy")
    local = plan_of(config)
    try:
        if not isinstance(offered, dict):
            raise ConfigError("the round offers no differential privacy")
        run = PrivacyPlan.from_config(offered)
        known = set(run.to_config()) | set(EXTRA)
        if set(offered) != known:
            raise ConfigError(f"the privacy plan's fields are {sorted(known)}")
        clip, copies, batch = (offered[name] for name in EXTRA)
        release = run.release()
        plan = PrivatePlan(
            steps=run.steps,
            sample_rate=release.sample_rate,
            noise_multiplier=release.noise_multiplier,
            clip_norm=_number(clip, "clip_norm", 1e6),
            learning_rate=local.rate(0.5),
            optimiser=local.optimiser,
            weight_decay=local.weight_decay,
            betas=local.betas,
            multiplicity=_whole(copies, "multiplicity", MAX_MULTIPLICITY),
            physical_batch=_whole(batch, "physical_batch", MAX_PHYSICAL_BATCH),
        )
    except ConfigError as error:
        raise PolicyViolation(f"the round's privacy cannot be used: {error}") from None
    mechanism = Mechanism(
        noise_multiplier=run.noise_multiplier,
        sample_rate=run.sample_rate,
        steps=run.steps,
        delta=run.delta,
    )
    return plan, mechanism, run.unit


def _number(value: Any, name: str, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= high:
        raise ConfigError(f"{name} must be a number above 0 and at most {high:g}")
    return float(value)


def _whole(value: Any, name: str, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
        raise ConfigError(f"{name} must be a whole number from 1 to {high}")
    return value
