"""From a checked sum to the next model, by a rule that everybody can recompute.

``fedavg`` is ``ledger.quantise.apply_sum`` alone. ``fedadam`` and ``fedyogi`` (Reddi et al., ICLR
2021) keep a first and a second moment of the mean update. Both are tensors of the model file:
``server_m/<name>`` and ``server_v/<name>`` (dots of the name written as slashes) stand beside every
tensor that they steer, so the model's digest on the chain covers them, every hospital and the
auditor start from the same ones, and a hospital that missed a round needs nothing but the model.
Hospitals do not train them, so they do not travel (``ledger.travels``); what a sum holds of them in
a run from before that is ignored. What does not travel in a round, and its moments, stay as they
are, bit for bit, under every rule.

Normative, in NumPy, one elementwise operation after the other in binary64, rounded to float32 when
stored. With ``delta = (S * step) / W``, elementwise:

    m' = b1 m + (1 - b1) delta
    v' = b2 v + (1 - b2) delta^2                         (fedadam)
    v' = v - (1 - b2) delta^2 sign(v - delta^2)          (fedyogi)
    x' = x + rate m' / (sqrt(v') + tau)

with m' and v' as stored. A tensor without moments (a running mean) is averaged as in ``fedavg``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ledger.errors import ConfigError, NonFiniteUpdate, SpecMismatch
from ledger.manifest import Manifest
from ledger.quantise import apply_sum
from ledger.travels import MOMENTS, runs

FIELD: Final = "server"
FEDAVG, FEDADAM, FEDYOGI = "fedavg", "fedadam", "fedyogi"
RULES: Final = (FEDAVG, FEDADAM, FEDYOGI)
FIRST, SECOND = MOMENTS


def moment_names(name: str) -> tuple[str, str]:
    """Return the names of a tensor's first and second moment."""
    slashed = name.replace(".", "/")
    return FIRST + slashed, SECOND + slashed


def is_moment(name: str) -> bool:
    """Say whether a tensor of this name is one of the server's moments."""
    return name.startswith(MOMENTS)


@dataclass(frozen=True, kw_only=True)
class ServerRule:
    """A rule and its constants; ``fedavg`` uses none.

    Attributes:
        name: one of ``RULES``.
        rate: of the server, (0, 10].
        beta1, beta2: decay of the moments, [0, 1).
        tau: adaptivity, in model units, [1e-9, 1].

    Raises:
        ConfigError: a value is outside its range.
    """

    name: str = FEDAVG
    rate: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.name not in RULES:
            raise ConfigError(f"the server's rule is one of {', '.join(RULES)}, not {self.name!r}")
        for name, low, high in (
            ("rate", 1e-9, 10.0),
            ("beta1", 0.0, 1 - 1e-9),
            ("beta2", 0.0, 1 - 1e-9),
            ("tau", 1e-9, 1.0),
        ):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not low <= value <= high:
                raise ConfigError(f"the server's {name} is a number in [{low}, {high}]")

    @property
    def adaptive(self) -> bool:
        """Whether it keeps moments."""
        return self.name != FEDAVG

    def to_config(self) -> dict[str, object]:
        """Return what a round's configuration holds."""
        return asdict(self)

    @classmethod
    def of_config(cls, config: Mapping[str, object]) -> ServerRule:
        """Return the rule of a round's configuration; nothing said is ``fedavg``.

        Raises:
            ConfigError: it is said in another form.
        """
        said = config.get(FIELD)
        if said is None:
            return cls()
        if not isinstance(said, dict) or set(said) != set(asdict(cls())):
            raise ConfigError("the server's rule is name, rate, beta1, beta2 and tau")
        return cls(**said)


def next_model(
    manifest: Manifest,
    update: Manifest,
    base: NDArray[np.float32],
    total: NDArray[np.int64],
    total_weight: int,
    step_exponent: int,
    rule: ServerRule,
) -> NDArray[np.float32]:
    """Return the next model, flat; what does not travel is the base's, bit for bit.

    Args:
        manifest: of the model, moments included; d coordinates.
        update: of what travels in the round (``ledger.travels``); u coordinates.
        base: float32, length d.
        total: the exact weighted sum S, int64, length u.
        total_weight: W.
        step_exponent: k of the step 2^-k.
        rule: of the round.

    Raises:
        WeightOverflow, SumOutOfRange, SpecMismatch, InvalidStatement: as ``apply_sum``, of what
            travels.
        ConfigError: the rule needs moments that the model does not have.
        NonFiniteUpdate: base or result is not finite.
    """
    if base.shape != (manifest.size,) or total.shape != (update.size,):
        raise SpecMismatch("base model and sum are not vectors of the round's manifests")
    result = base.copy()
    for run in runs(manifest, update):
        result[run.model] = apply_sum(
            base[run.model], total[run.update], total_weight, step_exponent
        )
    if rule.adaptive:
        step, weight = np.float64(math.ldexp(1.0, -step_exponent)), np.float64(total_weight)
        deltas = (
            (name, total[place].astype(np.float64) * step / weight)
            for name, place in _places(update).items()
        )
        _steer(rule, _places(manifest), base, deltas, result)
    if not np.isfinite(result).all():
        raise NonFiniteUpdate("the model would hold NaN or infinity")
    return result


def _steer(
    rule: ServerRule,
    places: dict[str, slice],
    base: NDArray[np.float32],
    deltas: Iterable[tuple[str, NDArray[np.float64]]],
    result: NDArray[np.float32],
) -> None:
    """Write into ``result`` each tensor of ``deltas`` that has moments, and its moments."""
    steered = 0
    for name, delta in deltas:
        first, second = moment_names(name)
        if is_moment(name) or first not in places or second not in places:
            continue
        x, m, v = (base[places[part]] for part in (name, first, second))
        result[places[name]], result[places[first]], result[places[second]] = _step(
            rule, x, m, v, delta
        )
        steered += 1
    if not steered:
        raise ConfigError(f"the rule {rule.name} needs a model with moments of its tensors")


def _places(manifest: Manifest) -> dict[str, slice]:
    """Return where each tensor is in the manifest's flat vector."""
    found, begin = {}, 0
    for spec in manifest.tensors:
        found[spec.name] = slice(begin, begin + spec.size)
        begin += spec.size
    return found


def _step(
    rule: ServerRule,
    x: NDArray[np.float32],
    m: NDArray[np.float32],
    v: NDArray[np.float32],
    delta: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return (x', m', v') of one tensor, by the module's formulas."""
    squared = delta * delta
    before = v.astype(np.float64)
    grown = (1.0 - rule.beta2) * squared
    with np.errstate(over="ignore", invalid="ignore"):  # named by the caller, by one clear error
        if rule.name == FEDADAM:
            second = rule.beta2 * before + grown
        else:
            second = before - grown * np.sign(before - squared)
        first = rule.beta1 * m.astype(np.float64) + (1.0 - rule.beta1) * delta
        stored_m = first.astype(np.float32)
        # Yogi's v' may round below zero by a last bit where v is all but delta^2.
        stored_v = np.maximum(second, 0.0).astype(np.float32)
        change = rule.rate * stored_m.astype(np.float64)
        change = change / (np.sqrt(stored_v.astype(np.float64)) + rule.tau)
        moved = (x.astype(np.float64) + change).astype(np.float32)
    return moved, stored_m, stored_v
