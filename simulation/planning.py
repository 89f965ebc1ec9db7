"""From settings to what is trained: the learner, its training plan, and what every round asks.

Pure: no file and no chain. Everything here is public and stands in the rounds' configurations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from client.data.records import FINDINGS
from client.data.uncertainty import Policy
from client.evaluate_local import LOCAL_METRICS
from client.learners import get_learner
from client.learners.interface import HEAD, Learner
from client.learners.label_odds import check_adjustable
from client.learners.losses import MULTICLASS
from client.learners.phase import Phase
from client.train_plan import TrainPlan
from client.trainer import TRAIN_METRICS
from ledger.errors import ConfigError
from ledger.manifest import Manifest
from ledger.retention import Retention
from ledger.server_rule import ServerRule, is_moment
from ledger.travels import update_manifest
from server.phases import PRIVATE, PhasePlan
from server.plan import RoundPlan
from server.screen import ScreenPolicy, noise_floor
from simulation.phase_settings import settings_of
from simulation.priors import public_prior
from simulation.privacy import check_private, privacy_of, share_of
from simulation.settings import Settings
from simulation.shards import data_terms_of

_PLAN_SETTINGS = ("epochs", "batch_size", "learning_rate", "weight_decay")
"""Fields of the training plan that are settings of their own."""


def learner_of(settings: Settings, findings: Sequence[str] | None = None) -> Learner:
    """Return the learner the settings name, for these findings.

    A balanced loss takes its prior from the published label shares, unless it is given one; so do
    adjusted logits, and whatever generates films of a single finding.

    Args:
        settings: of the run.
        findings: none for those that the settings name, which of a union are not known yet (NIH's).

    Raises:
        ConfigError: it is unknown, or an option is wrong.
    """
    findings = findings or settings.known_findings or FINDINGS
    objective = _objective(settings)
    for option, setting in (("input_size", "size"), ("labels", "findings")):
        if option in settings.learner_options:
            raise ConfigError(f"learner_options has no {option}: the setting {setting} says it")
    options = {"labels": len(findings), **objective, **settings.learner_options}
    # Where each hospital's own head starts, or how often a generator is asked for the one finding.
    asked = options.get("balance") or options.get("local") == HEAD or len(findings) == 1
    if (asked or _adjusts(settings)) and not options.get("prior"):
        options["prior"] = list(public_prior(findings))
    if server_rule(settings).adaptive:
        options["moments"] = True
    return get_learner(settings.learner, input_size=settings.size, **options)


def _adjusts(settings: Settings) -> bool:
    """Return whether any phase adjusts its logits by each hospital's label odds."""
    said = [settings.train_options, *(each.get("train_options", {}) for each in settings.phases)]
    return any(options.get("logit_adjustment") for options in said)


def server_rule(settings: Settings) -> ServerRule:
    """Return the rule from a round's sum to the next model.

    Raises:
        ConfigError: an unknown name or constant, or one out of range.
    """
    try:
        rule = ServerRule(**settings.server)
    except TypeError:
        raise ConfigError("the setting server has name, rate, beta1, beta2 and tau") from None
    if rule.adaptive and settings.epsilon:
        # It would be post-processing of private sums, but is not tried: docs/adr/0012.
        raise ConfigError(
            f"the server's rule {rule.name} is for runs without privacy (epsilon off)"
        )
    return rule


def _objective(settings: Settings) -> dict[str, object]:
    """Return the objective that a class for uncertain labels needs; nothing where none is asked.

    Raises:
        ConfigError: the learner's objective and the policy for uncertain labels do not fit.
    """
    asked = settings.learner_options.get("objective")
    classes = settings.uncertain == Policy.MULTICLASS
    if asked is not None and (asked == MULTICLASS) != classes:
        raise ConfigError(
            f"uncertain labels that are {settings.uncertain} do not fit the objective {asked!r}:"
            " the policy multiclass and the objective multiclass go together"
        )
    return {"objective": MULTICLASS} if classes else {}


def train_plan(settings: Settings) -> TrainPlan:
    """Return the local training plan.

    Raises:
        ConfigError: an option is unknown or out of range.
    """
    return TrainPlan.from_description(
        {
            "epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate,
            "weight_decay": settings.weight_decay,
            **settings.train_options,
        }
    )


def round_plan(
    settings: Settings, learner: Learner, manifest: Manifest, findings: tuple[str, ...]
) -> RoundPlan:
    """Return what the coordinator asks of every round.

    Raises:
        ConfigError: a phase that the learner has not, or a value that cannot be.
    """
    module, privacy = learner.build(0), privacy_of(settings, train_plan(settings))
    schedule = schedule_of(settings, learner)
    alone = {"name": learner.phases[-1], "rounds": settings.rounds}
    phases = [
        _phase_plan(settings, table, learner, module, manifest) for table in schedule or [alone]
    ]
    plan = RoundPlan(
        rounds=settings.rounds,
        learner=learner.describe(),
        data=data_terms_of(settings, findings).to_config(),
        privacy=None if privacy is None else privacy.config,
        screen=ScreenPolicy(directions=settings.screen),
        commit_window=settings.commit_window,
        attest_window=settings.attest_window,
        server=server_rule(settings),
        retention=Retention(evidence=settings.retain_evidence, models=settings.retain_models),
    )
    if schedule:
        return replace(plan, phases=tuple(phases))
    (only,) = phases
    whole = {spec.name for spec in manifest.tensors if not is_moment(spec.name)}
    return replace(
        plan,
        train=only.train,
        travels=() if set(only.travels) == whole else only.travels,
        privacy=None if privacy is None else {**privacy.config, **only.privacy},
        metrics=only.metrics,
        max_norm=only.max_norm,
        coordinate_drift=only.coordinate_drift,
        coordinate_noise=only.coordinate_noise,
        screen=replace(plan.screen, noise_floor=only.noise_floor),
    )


def schedule_of(settings: Settings, learner: Learner) -> list[dict[str, Any]]:
    """Return the phases of a run as tables; none for a learner of one phase that nobody splits.

    Raises:
        ConfigError: a phase that the learner has not, or that lacks another before it.
    """
    if not settings.phases and len(learner.phases) == 1:
        return []
    spans = learner.schedule(settings.rounds).items()
    tables = settings.phases or [{"name": n, "rounds": rounds} for n, rounds in spans if rounds]
    for table in tables:
        learner.phase(table["name"])
    learner.check_phases([table["name"] for table in tables])
    return tables


def check_plans(settings: Settings, learner: Learner) -> None:
    """Refuse what no phase of a run could be trained by, before anything is made.

    Raises:
        ConfigError: a phase that the learner has not, or an option of its training plan that is
            unknown, out of range, or not for such a learner or a private run.
    """
    for table in schedule_of(settings, learner) or [{"name": learner.phases[-1]}]:
        train = train_plan(settings_in(settings, learner, table))
        check_private(settings, train)
        if train.logit_adjustment:
            check_adjustable(learner, learner.phase(table["name"]))


def settings_in(settings: Settings, learner: Learner, table: Mapping[str, Any]) -> Settings:
    """Return the settings of a run as they are in one phase.

    The first of these that says something holds: the phase's table; the run's settings, where they
    are not at their defaults; what the learner says suits the phase; the default.

    Args:
        settings: of the run.
        learner: whose phase it is.
        table: of the phase (``simulation.phase_settings``).

    Raises:
        ConfigError: a phase that the learner has not, or a value out of range.
    """
    suits = dict(learner.phase(table["name"]).train_defaults)
    named = {key: suits.pop(key) for key in _PLAN_SETTINGS if key in suits}
    kept = {k: v for k, v in named.items() if getattr(settings, k) == getattr(Settings, k)}
    options = {**suits, **settings.train_options}
    changes: dict[str, Any] = {**kept, "train_options": options, "phases": []}
    return settings_of(replace(settings, **changes), table)


def _phase_plan(
    settings: Settings,
    table: Mapping[str, Any],
    learner: Learner,
    module: nn.Module,
    manifest: Manifest,
) -> PhasePlan:
    """Return the plan of one phase, or of a run that is one."""
    own, phase = settings_in(settings, learner, table), learner.phase(table["name"])
    train = train_plan(own)
    if train.logit_adjustment:
        check_adjustable(learner, phase)
    privacy = privacy_of(own, train, table["rounds"])
    noisy, moving = _largest_shares(learner, phase, module, train)
    scores = LOCAL_METRICS if phase.scored else ()
    found = PhasePlan(
        name=phase.name,
        rounds=table["rounds"],
        travels=phase.travels(module),
        train=train.describe(),
        privacy={} if privacy is None else {name: privacy.config[name] for name in PRIVATE},
        # Scores of private patients are a release of their own: none leave a private run.
        metrics=() if privacy else (*scores, *TRAIN_METRICS),
        max_norm=own.max_norm,
        coordinate_drift=min(own.coordinate_drift, moving * privacy.coordinate_drift)
        if privacy
        else own.coordinate_drift,
        coordinate_noise=noisy * privacy.coordinate_noise if privacy else 0.0,
    )
    if privacy is None:
        return found
    alone = RoundPlan(rounds=found.rounds, learner={}, privacy=privacy.config, phases=(found,))
    update = update_manifest(manifest, alone.config(manifest, 1))
    floor = noise_floor(
        coordinate_noise=privacy.least_noise * share_of(learner, update, phase.trained(module)),
        step_exponent=alone.quantiser(manifest).step_exponent,
        size=update.size,
        norm_bound=alone.quantiser(manifest).norm_bound,
    )
    return replace(found, noise_floor=floor)


def _largest_shares(
    learner: Learner, phase: Phase, module: nn.Module, train: TrainPlan
) -> tuple[float, float]:
    """Return the largest share, at least 1, of the plan's rate: of what bears noise, of all."""
    noisy = max((1.0, *(learner.rate_share(name) for name in phase.trained(module))))
    rate = 1.0 if train.free_rate is None else train.free_rate / train.learning_rate
    return noisy, max((noisy, *(rate * learner.rate_share(name) for name in phase.free(module))))
