"""What a coordinator may ask of a hospital in one round: a closed list of typed fields.

The configuration arrives as canonical JSON whose digest stands on the chain. Everything a round
can set is a field here; a field nobody knows is refused rather than ignored, because a server's
message must never be able to widen what leaves a hospital (``malicious_app_code``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from client.data_terms import DataTerms
from ledger.canonical import canonical_json, config_digest, parse_json
from ledger.errors import CodecError, PolicyViolation, ThoracleError
from ledger.manifest import Manifest
from ledger.messages import MAX_CONFIG
from ledger.quantise import Quantiser
from ledger.retention import FIELD as RETENTION
from ledger.retention import Retention
from ledger.server_rule import FIELD as SERVER
from ledger.server_rule import ServerRule
from ledger.travels import PHASE, TRAVELS, PhaseTerms, update_manifest

FORMAT: Final = "thoracle/round-config/v1"
FIELDS: Final = frozenset(
    {
        "format",
        "manifest",
        "quantiser",
        "learner",
        "train",
        "data",
        "privacy",
        "screen",
        "metrics",
        "round",
        "rounds",
    }
)

OPTIONAL: Final = frozenset({RETENTION, SERVER, PHASE, TRAVELS})
"""Fields that only some rounds have: how long the coordinator keeps what it stores, a rule other
than the mean that leads from the sum to the next model, the phase of training, and which part of
the model it updates."""


@dataclass(frozen=True, kw_only=True)
class RoundTerms:
    """A round's configuration, parsed and typed; nothing in it is trusted yet.

    Attributes:
        digest: what the chain must name for this round (32 bytes).
        round: the round on the chain.
        rounds: rounds planned for the whole run.
        manifest: names and shapes of the model.
        update: of the part of it that travels in this round.
        phase: where in which phase of training the round stands, or None where it says nothing.
        quantiser: public step and norm bound.
        learner: ``name`` and options of the model family.
        train: fields of the training plan.
        data: findings and preprocessing of the whole federation, or None where it says nothing.
        privacy: the planned mechanism, or None without privacy.
        metrics: names of the numbers a reply may carry.
        config: the whole configuration, as parsed.
    """

    digest: bytes
    round: int
    rounds: int
    manifest: Manifest
    update: Manifest
    phase: PhaseTerms | None
    quantiser: Quantiser
    learner: Mapping[str, object]
    train: Mapping[str, object]
    data: DataTerms | None
    privacy: Mapping[str, object] | None
    metrics: frozenset[str]
    config: dict[str, object]

    @classmethod
    def parse(cls, data: bytes) -> RoundTerms:
        """Parse a configuration's canonical JSON.

        Raises:
            PolicyViolation: not canonical, an unknown or missing field, or a wrong type.
        """
        config = _parse(data)
        if set(config) - OPTIONAL != FIELDS or config["format"] != FORMAT:
            strange = sorted((set(config) - OPTIONAL) ^ FIELDS)
            raise PolicyViolation(f"not a round configuration of this version: {strange}")
        quantiser = _table(config, "quantiser")
        names = config["metrics"]
        if not isinstance(names, list) or not all(isinstance(item, str) for item in names):
            raise PolicyViolation("the configuration's metrics are not a list of names")
        privacy = None if config["privacy"] is None else _table(config, "privacy")
        _table(config, "screen")
        if set(quantiser) != {"step_exponent", "norm_bound"}:
            raise PolicyViolation("the quantiser is a step exponent and a norm bound, nothing else")
        try:
            Retention.of_config(config)
            ServerRule.of_config(config)
            manifest = Manifest.from_json(config["manifest"])
            update, phase = update_manifest(manifest, config), PhaseTerms.of_config(config)
            rule = Quantiser(
                step_exponent=_integer(quantiser, "step_exponent"),
                norm_bound=_integer(quantiser, "norm_bound"),
            )
        except PolicyViolation:
            raise
        except ThoracleError as error:
            raise PolicyViolation(f"the configuration cannot be used: {error}") from None
        return cls(
            digest=config_digest(config),
            round=_integer(config, "round"),
            rounds=_integer(config, "rounds"),
            manifest=manifest,
            update=update,
            phase=phase,
            quantiser=rule,
            learner=_table(config, "learner"),
            train=_table(config, "train"),
            data=DataTerms.from_config(config["data"]),
            privacy=privacy,
            metrics=frozenset(names),
            config=config,
        )


def _parse(data: bytes) -> dict[str, object]:
    try:
        config = parse_json(data, MAX_CONFIG)
        if not isinstance(config, dict) or canonical_json(config) != data:
            raise PolicyViolation("the round's configuration is not one canonical JSON object")
    except CodecError as error:
        raise PolicyViolation(f"the round's configuration cannot be read: {error}") from None
    return config


def _table(config: Mapping[str, object], name: str) -> dict[str, object]:
    value = config.get(name)
    if not isinstance(value, dict):
        raise PolicyViolation(f"the configuration's {name} is not a table")
    return value


def _integer(table: Mapping[str, object], name: str) -> int:
    value = table.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 40:
        raise PolicyViolation(f"the configuration's {name} is not a whole number in range")
    return value
