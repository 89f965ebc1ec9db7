"""The trainer of a real hospital: its radiographs and a learner, behind the agent's interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import nn

from client.checkpoint import Desk
from client.data_terms import DataTerms, check_data
from client.learners.exchange import load_model, module_to_model
from client.learners.interface import Learner
from client.learners.label_odds import check_adjustable
from client.learners.phase import Phase
from client.learners.registry import from_description
from client.local_tensors import LocalTensors
from client.roles import Config, TrainedUpdate
from client.train import TrainPlan, train
from ledger.errors import ConfigError, PolicyError, PolicyViolation, ThoracleError
from ledger.manifest import Manifest, Model
from ledger.server_rule import is_moment
from ledger.travels import PhaseTerms, update_manifest

TRAIN_METRICS = ("train_examples", "train_loss", "train_steps")
"""Every name a training may give; policy and allow-list pick from them."""


@dataclass(frozen=True, kw_only=True)
class LocalTrainer:
    """Trains without privacy on this hospital's own images.

    Attributes:
        pixels: (N, 1, S, S) uint8.
        labels: (N, L) int8 of 1, 0, -1 (unknown) and -2 (uncertain).
        progress: called with (steps done, steps).
        terms: how the images were prepared and what the labels are; None if not known.
        desk: where a long training is put down; None: nowhere.
        local: where tensors that stay here are kept; None refuses learners that have any.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    labels: NDArray[np.int8] = field(repr=False)
    progress: Callable[[int, int], None] | None = None
    terms: DataTerms | None = None
    desk: Desk | None = None
    local: LocalTensors | None = None

    def forget(self) -> None:
        """Forget the checkpoint: the update it led to is durable."""
        if self.desk is not None:
            self.desk.clear()

    def check(self, config: Config) -> None:
        """Refuse what cannot be trained here, before any budget is spent.

        Raises:
            PolicyViolation: unknown learner, option or training field, or values out of range.
            PolicyError: the round is private; this trainer is not.
            DataMismatch: the round means other findings or preprocessing than these data's.
        """
        if config.get("privacy") is not None:
            raise PolicyError("the round is private, but this hospital's trainer is not")
        check_data(self.terms, config)
        learner = learner_of(config)
        fits(learner, self.terms)
        if learner.local and self.local is None:
            raise PolicyViolation("the round's learner keeps tensors here, which has no place")
        phase = phase_of(learner, config)
        travelling(learner, phase, config)
        if plan_of(config).logit_adjustment:
            try:
                check_adjustable(learner, phase)
            except ConfigError as error:
                raise PolicyViolation(f"the round cannot be trained: {error}") from None

    def __call__(self, base: Model, config: Config, seed: int, /) -> TrainedUpdate:
        """Return the model after one round on all of the hospital's images.

        Raises:
            SpecMismatch: the base is not a model of the round's learner.
            DataError: the images do not fit the learner.
            NonFiniteUpdate: training diverged.
        """
        self.check(config)
        learner, module = start_from(base, config)
        phase = phase_of(learner, config)
        names = travelling(learner, phase, config)
        number = int(str(config["round"]))
        if self.local is not None:
            self.local.restore(learner, module, number - 1)
        outcome = train(
            module,
            learner,
            self.pixels,
            self.labels,
            plan_of(config),
            seed=seed,
            phase=phase,
            progress=self.progress,
            checkpoint=self.desk.checkpoint(base, config, seed) if self.desk else None,
        )
        if self.local is not None:
            self.local.keep(learner, module, number)
        return TrainedUpdate(
            model=module_to_model(module, names),
            metrics={
                "train_examples": float(outcome.examples),
                "train_loss": outcome.loss,
                "train_steps": float(outcome.steps),
            },
        )


def learner_of(config: Config) -> Learner:
    """Return the learner a configuration names.

    Raises:
        PolicyViolation: it is unknown, has an unknown option or one out of range, or its tensors
            are not the configuration's manifest.
    """
    described = config.get("learner")
    try:
        if not isinstance(described, dict):
            raise ConfigError("the configuration names no learner")
        learner = from_description(described)
        module = learner.build(0)
        found = Manifest.of_model(module_to_model(module, learner.shared(module)))
    except (ConfigError, TypeError) as error:
        raise PolicyViolation(f"the round's learner cannot be built: {error}") from None
    if found.to_json() != config.get("manifest"):
        raise PolicyViolation("the round's manifest is not that of its learner")
    return learner


def phase_of(learner: Learner, config: Config) -> Phase:
    """Return the phase of a configuration's round; the learner's last where it names none.

    Raises:
        PolicyViolation: the learner has no such phase, or it is said in another form.
    """
    try:
        said = PhaseTerms.of_config(config)
        return learner.phase(said.name if said else learner.phases[-1])
    except ConfigError as error:
        raise PolicyViolation(f"the round's phase cannot be trained: {error}") from None


def travelling(learner: Learner, phase: Phase, config: Config) -> tuple[str, ...]:
    """Return the names of the tensors that a round's update holds.

    Raises:
        PolicyViolation: the configuration asks for other tensors than the phase changes. More
            would tell of what was not trained; fewer would lose some of what was. (The server's
            moments, which nobody trains, are in a configuration that names no tensors.)
    """
    module = learner.build(0)
    try:
        asked = update_manifest(Manifest.from_json(config["manifest"]), config)
    except ThoracleError as error:
        raise PolicyViolation(f"what travels in the round cannot be used: {error}") from None
    names = tuple(spec.name for spec in asked.tensors)
    if set(phase.travels(module)) != {name for name in names if not is_moment(name)}:
        raise PolicyViolation(
            f"what travels in the round is not what the phase {phase.name} trains"
        )
    return names


def fits(learner: Learner, terms: DataTerms | None) -> None:
    """Refuse a learner whose outputs or inputs are not those of the data.

    Raises:
        PolicyViolation: it tells another number of findings, or reads another size.
    """
    if terms is None:
        return
    if learner.labels != len(terms.findings):
        raise PolicyViolation(
            f"the round's learner tells {learner.labels} findings, its terms name"
            f" {len(terms.findings)}"
        )
    if terms.preprocessing.get("size", learner.input_size) != learner.input_size:
        raise PolicyViolation("the round's learner reads images of another size than its terms say")


def only_plain(learner: Learner, plan: TrainPlan) -> None:
    """Refuse what private training does not do.

    Raises:
        PolicyViolation: tensors that stay at the hospital, a proximal term, parts of a pass, or
            logits adjusted by counts over private labels.
    """
    if learner.local or plan.proximal:
        raise PolicyViolation("local tensors and a proximal term are for rounds without privacy")
    if plan.parts > 1:
        raise PolicyViolation(
            "parts divides passes over images: for rounds without privacy, whose steps have none"
        )
    if plan.logit_adjustment:
        raise PolicyViolation(
            "logit_adjustment counts a hospital's private labels: for rounds without privacy"
        )


def plan_of(config: Config) -> TrainPlan:
    """Return the training plan of a configuration's round.

    Raises:
        PolicyViolation: an unknown field, or a value out of range.
    """
    described, number, rounds = (config.get(name) for name in ("train", "round", "rounds"))
    try:
        phase = PhaseTerms.of_config(config)
        if not isinstance(described, dict):
            raise ConfigError("the configuration has no training plan")
        if not isinstance(number, int) or not isinstance(rounds, int):
            raise ConfigError("the configuration has no round numbers")
        if phase is not None:
            return TrainPlan.from_description(described).for_round(phase.round, phase.rounds)
        # Aborted rounds count on the chain: the last ones of a long run stay at the plan's end.
        return TrainPlan.from_description(described).for_round(min(number, rounds), rounds)
    except (ConfigError, TypeError) as error:
        raise PolicyViolation(f"the round's training plan cannot be used: {error}") from None


def start_from(base: Model, config: Config) -> tuple[Learner, nn.Module]:
    """Return learner and module, with the base model loaded.

    Raises:
        SpecMismatch: the base is not a model of this learner.
    """
    learner = learner_of(config)
    module = learner.build(0)
    load_model(module, base, learner.shared(module))
    return learner, module
