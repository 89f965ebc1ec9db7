"""The hospital's own policy: what it lets a coordinator ask, whatever the coordinator sends.

It is a TOML file in the hospital's home, read by nobody else. Two rules hold everywhere: an
unknown key or a wrong type in the file stops the hospital (`PolicyError`: a misspelt limit must
not become no limit), and a configuration may only ask for *less* than the policy allows
(`PolicyViolation`). Nothing a server sends can change the policy, the data or the metrics.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from client.terms import RoundTerms
from ledger.errors import PolicyError, PolicyViolation, ThoracleError
from ledger.statement import Rules, Unit

POLICY_LIMIT: Final = 1 << 16
TRAIN_LIMITS: Final = {
    "epochs": "max_epochs",
    "batch_size": "max_batch",
    "threads": "max_threads",
}
"""Fields of a training plan that cost the hospital work, and the policy that bounds each."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What this hospital allows; the defaults let nothing out beside the update itself.

    Attributes:
        metrics: names of numbers that may leave with a reply.
        learners: model families it trains; empty means any it has installed.
        max_coordinates: largest model it trains, in numbers.
        max_update_norm: largest L2 norm of an update it sends, in model units.
        max_step: coarsest quantisation step it sends, in model units.
        max_epochs: most passes over its data in one round.
        max_batch: largest batch.
        max_threads: most threads a training may use.
        privacy: "patient", "image" or "off"; what protection a round must give at least.
        max_epsilon: largest total epsilon of a run it joins (ignored when privacy is off).
        max_delta: largest delta (ignored when privacy is off).
        accept_quorum_only: whether it trains on a model that some hospitals never attested.
        contest: whether it contests a refusal that its own re-check does not bear out.
        keep_rounds: rounds for which finished updates stay in its spool.
        checkpoint_minutes: of training after which it is put down, to go on from after a crash.
    """

    metrics: frozenset[str] = field(default_factory=frozenset)
    learners: frozenset[str] = field(default_factory=frozenset)
    max_coordinates: int = 2**23
    max_update_norm: float = 1e4
    max_step: float = 2.0**-6
    max_epochs: int = 100
    max_batch: int = 65_536
    max_threads: int = 64
    privacy: str = "off"
    max_epsilon: float = 8.0
    max_delta: float = 1e-5
    accept_quorum_only: bool = False
    contest: bool = True
    keep_rounds: int = 2
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        """Refuse a limit that limits nothing or everything.

        Raises:
            PolicyError: a value is outside its range.
        """
        if self.privacy not in ("patient", "image", "off"):
            raise PolicyError(f"privacy must be patient, image or off, not {self.privacy!r}")
        for item in fields(self):
            value = getattr(self, item.name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and not 0 < value < math.inf:
                raise PolicyError(f"{item.name} must be a number above zero, not {value!r}")

    @classmethod
    def load(cls, path: Path) -> Policy:
        """Read a policy file; a missing file is the default policy.

        Raises:
            PolicyError: it cannot be read, or holds an unknown key or a wrong type.
        """
        if not path.exists():
            return cls()
        try:
            data = path.read_bytes()
            if len(data) > POLICY_LIMIT:
                raise PolicyError("the policy file is too large")
            return cls.from_table(tomllib.loads(data.decode()))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise PolicyError(f"the policy file cannot be read: {error}") from None

    @classmethod
    def from_table(cls, table: Mapping[str, object]) -> Policy:
        """Return the policy a TOML table describes.

        Raises:
            PolicyError: an unknown key or a wrong type.
        """
        known = {item.name: getattr(cls(), item.name) for item in fields(cls)}
        given: dict[str, object] = {}
        for name, value in table.items():
            if name not in known:
                raise PolicyError(f"the policy has an unknown key: {name}")
            given[name] = _typed(name, value, known[name])
        return cls(**given)  # type: ignore[arg-type]

    def allowed(self, metrics: Mapping[str, float], terms: RoundTerms) -> dict[str, float]:
        """Return the finite numbers that both the round declares and this policy lets out."""
        names = sorted(terms.metrics & self.metrics & set(metrics))
        return {name: float(metrics[name]) for name in names if math.isfinite(metrics[name])}

    def check(self, terms: RoundTerms, rules: Rules) -> None:
        """Refuse a configuration that asks for more than this policy allows.

        Raises:
            PolicyViolation: it does; the sentence names what.
        """
        _check_outputs(self, terms)
        _check_learner(self, terms)
        _check_quantiser(self, terms)
        _check_work(self, terms)
        _check_privacy(self, terms, rules)


def _typed(name: str, value: object, default: object) -> object:
    if isinstance(default, frozenset):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return frozenset(value)
    elif isinstance(default, bool) or isinstance(value, bool):
        if isinstance(default, bool) and isinstance(value, bool):
            return value
    elif isinstance(default, float):
        if isinstance(value, (int, float)):
            return float(value)
    elif isinstance(value, type(default)):
        return value
    raise PolicyError(f"the policy's {name} has the wrong type: {value!r}")


def _check_outputs(policy: Policy, terms: RoundTerms) -> None:
    extra = sorted(terms.metrics - policy.metrics)
    if extra:
        raise PolicyViolation(f"the round asks for metrics that may not leave: {extra}")


def _check_learner(policy: Policy, terms: RoundTerms) -> None:
    name = terms.learner.get("name")
    if not isinstance(name, str) or (policy.learners and name not in policy.learners):
        raise PolicyViolation(f"the round asks for a learner that is not allowed: {name!r}")
    if terms.manifest.size > policy.max_coordinates:
        raise PolicyViolation(
            f"the model has {terms.manifest.size} coordinates, over the {policy.max_coordinates}"
            " this hospital trains"
        )


def _check_quantiser(policy: Policy, terms: RoundTerms) -> None:
    step = 2.0**-terms.quantiser.step_exponent
    bound = terms.quantiser.norm_bound
    if step > policy.max_step:
        raise PolicyViolation(f"the quantisation step {step} is coarser than {policy.max_step}")
    if not bound or bound * step > policy.max_update_norm:
        raise PolicyViolation(
            f"the round allows updates of norm {bound * step:g}, over this hospital's"
            f" {policy.max_update_norm:g}"
        )


def _check_work(policy: Policy, terms: RoundTerms) -> None:
    for name, limit in TRAIN_LIMITS.items():
        value = terms.train.get(name)
        bound = getattr(policy, limit)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= bound:
            raise PolicyViolation(f"the round asks for {name} = {value!r}, over {bound}")


def _check_privacy(policy: Policy, terms: RoundTerms, rules: Rules) -> None:
    asked = terms.privacy
    if (asked is None) != (rules.privacy_unit is Unit.NONE):
        raise PolicyViolation(
            "the round's privacy is not what the federation's rules say"
            f" (unit {rules.privacy_unit.name.lower()})"
        )
    if policy.privacy == "off":
        return
    if asked is None:
        raise PolicyViolation("this hospital trains only with differential privacy")
    if policy.privacy == "patient" and rules.privacy_unit is not Unit.PATIENT:
        raise PolicyViolation("this hospital's privacy unit is the patient, not the image")
    from client.privacy_plan import PrivacyPlan  # costs an accountant's import; only here

    try:
        plan = PrivacyPlan.from_config(asked)
        epsilon, delta = plan.epsilon(plan.rounds), plan.delta / 10**12
    except ThoracleError as error:
        raise PolicyViolation(f"the round's privacy cannot be used: {error}") from None
    if epsilon > policy.max_epsilon or delta > policy.max_delta:
        raise PolicyViolation(
            f"the run would spend epsilon {epsilon:.3f} at delta {delta:g}, over this hospital's"
            f" {policy.max_epsilon:g} at {policy.max_delta:g}"
        )
