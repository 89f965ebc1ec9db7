"""What ``run.json`` says: the settings, seeds, versions, addresses and anchors of a run."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from client.data.records import FINDINGS
from client.learners.interface import Learner
from client.learners.registry import from_description
from ledger.anchors import Anchors
from ledger.canonical import canonical_json, parse_json
from ledger.errors import CodecError, ConfigError
from ledger.files import atomic_write, read_bounded
from ledger.manifest import Manifest
from simulation.planning import train_plan
from simulation.privacy import RunPrivacy, privacy_of
from simulation.settings import Settings, settings_from

RUN_FORMAT = "thoracle/run/v1"
MAX_RUN = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A run folder that is whole but for its chain."""

    folder: Path
    learner: Learner
    manifest: Manifest
    initial_model: bytes
    warm_start: dict[str, object] | None
    hospitals: tuple[str, ...]
    findings: tuple[str, ...] = FINDINGS


def write_run(settings: Settings, draft: Draft, anchors: Anchors, founders: list[str]) -> None:
    """Write ``run.json``: configuration, seeds, versions, addresses and anchors."""
    privacy = privacy_of(settings, train_plan(settings))
    record = {
        "format": RUN_FORMAT,
        "config": settings.to_dict(),
        "anchors": anchors.to_record(),
        "coordinator": anchors.coordinator,
        "hospitals": [
            {"name": name, "address": address}
            for name, address in zip(draft.hospitals, founders, strict=True)
        ],
        "learner": draft.learner.describe(),
        "findings": list(draft.findings),
        "manifest": draft.manifest.to_json(),
        "initial_model": draft.initial_model.hex(),
        "warm_start": draft.warm_start,
        "privacy": None if privacy is None else privacy_record(privacy),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("flwr", "torch", "timm", "numpy", "web3")},
        },
    }
    atomic_write(draft.folder / "run.json", canonical_json(record))


def privacy_record(privacy: RunPrivacy) -> dict[str, object]:
    """Return a run's privacy as it stands in ``run.json``."""
    return {
        **privacy.config,
        "cap": privacy.cap,
        "epsilon_by_round": [
            round(privacy.plan.epsilon(number), 6) for number in range(1, privacy.plan.rounds + 1)
        ],
        "noise": "insecure-test" if privacy.insecure else "operating system",
    }


def read_draft(folder: Path) -> tuple[Settings, Draft]:
    """Read a run folder's settings and draft back from ``run.json``.

    Raises:
        ConfigError: the folder is no run, or its preparation never finished.
    """
    path = folder / "run.json"
    if not path.is_file() or not (folder / "coordinator.json").is_file():
        raise ConfigError(f"{folder} is no run that could go on: it was never fully prepared")
    try:
        record = parse_json(read_bounded(path, MAX_RUN), MAX_RUN)
        if not isinstance(record, dict) or record.get("format") != RUN_FORMAT:
            raise ConfigError(f"{path} is not of the format {RUN_FORMAT}")
        return settings_from(record["config"]), Draft(
            folder=folder,
            learner=from_description(record["learner"]),
            manifest=Manifest.from_json(record["manifest"]),
            initial_model=bytes.fromhex(record["initial_model"]),
            warm_start=record["warm_start"],
            hospitals=tuple(item["name"] for item in record["hospitals"]),
            findings=tuple(record.get("findings", FINDINGS)),
        )
    except (CodecError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
