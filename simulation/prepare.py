"""From settings to a federation that is ready to run: data, keys, a chain, registered hospitals.

Everything that can be refused is refused before the run folder exists: it is built beside its
place and moved there whole. Only then is the chain started, in the folder it stays in.

In this one-machine federation all parties' keys lie in the run folder, each readable by its owner
only, under passwords in files beside them. A deployment gives every party its own machine.
"""

from __future__ import annotations

import platform
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from eth_account.signers.local import LocalAccount
from torch import nn

from client.data.records import FINDINGS, Cohort
from client.data.uncertainty import Policy
from client.evaluate_local import LOCAL_METRICS
from client.home import HospitalSpec, open_hospital
from client.learners import get_learner, module_to_model
from client.learners.interface import HEAD, Learner
from client.learners.losses import MULTICLASS
from client.learners.registry import from_description
from client.shard import read_shard, write_shard
from client.train import TrainPlan
from client.trainer import TRAIN_METRICS
from ledger.anchors import Anchors
from ledger.canonical import canonical_json, parse_json
from ledger.chain import Ledger
from ledger.chain_rpc import connect
from ledger.errors import CodecError, ConfigError, OutputError
from ledger.files import ObjectStore, atomic_write, read_bounded
from ledger.keys import SCRYPT_N_SIMULATION, create_account, load_account, save_seal_key
from ledger.manifest import Manifest, encode_model
from ledger.retention import Retention
from ledger.seal import new_key
from ledger.server_rule import ServerRule
from ledger.statement import BASIS, Rules, Unit
from server.plan import RoundPlan
from server.screen import ScreenPolicy, noise_floor
from simulation.cohorts import Cohorts, films_of, gather, preprocessing_of
from simulation.priors import public_prior
from simulation.privacy import (
    RunPrivacy,
    announced,
    check_cohorts,
    check_learner,
    privacy_of,
    share_of,
)
from simulation.progress import Steps
from simulation.settings import Settings, settings_from
from simulation.shards import data_terms_of, hospital_shard
from simulation.testset import write_test_set
from simulation.warm_start import check_public, warm_start

RUN_FORMAT = "thoracle/run/v1"
MAX_RUN = 1 << 22
NO_CAP = 2**40 - 1
"""The cap of a hospital in a federation without privacy: nothing is ever charged against it."""


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


def build_folder(settings: Settings, out: Path, steps: Steps) -> Draft:
    """Make the run folder with data, keys and the initial model, whole or not at all.

    Raises:
        OutputError: ``out`` is not empty, or cannot be written.
        DataError, ConfigError: the data or the settings cannot be used. Nothing is left behind.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"the run folder {out} is not empty; choose another name or remove it")
    check_public(settings)
    check_learner(settings, learner_of(settings))  # these refuse wrong options before any work
    preprocessing_of(settings)
    privacy = privacy_of(settings, train_plan(settings))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise OutputError(f"the run folder {out} cannot be made: {error.strerror}") from None
    try:
        steps.say("Reading radiographs")
        cohorts = gather(settings, draft / "phantoms")
        units = cohorts.units(settings.unit)
        check_cohorts(settings, units)
        steps.say(announced(settings, privacy, units))
        names = _write_hospitals(settings, cohorts, draft, steps)
        _write_test(settings, cohorts.test, draft)
        model = _write_model(settings, cohorts.train.vocabulary, draft, steps)
        _write_coordinator(draft)
        draft.chmod(0o755)
        if out.exists():
            out.rmdir()
        draft.rename(out)
    except OSError as error:
        raise OutputError(f"the run folder {out} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return replace(model, folder=out, hospitals=names)


def learner_of(settings: Settings, findings: Sequence[str] = FINDINGS) -> Learner:
    """Return the learner the settings name, for these findings.

    A balanced loss takes its prior from the published label shares, unless it is given one.

    Raises:
        ConfigError: it is unknown, or an option is wrong.
    """
    objective = _objective(settings)
    options = {"labels": len(findings), **objective, **settings.learner_options}
    if (options.get("balance") or options.get("local") == HEAD) and not options.get("prior"):
        options["prior"] = list(public_prior(findings))  # where each hospital's own head starts
    if server_rule(settings).adaptive:
        options["moments"] = True
    return get_learner(settings.learner, input_size=settings.size, **options)


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
        # The screen's floor of noise counts every coordinate, and moments bear none.
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
    """Return what the coordinator asks of every round."""
    train = train_plan(settings)
    privacy = privacy_of(settings, train)
    plan = RoundPlan(
        rounds=settings.rounds,
        learner=learner.describe(),
        train=train.describe(),
        data=data_terms_of(settings, findings).to_config(),
        privacy=None if privacy is None else privacy.config,
        screen=ScreenPolicy(directions=settings.screen),
        # Scores of private patients are a release of their own: none leave a private run.
        metrics=() if privacy else (*LOCAL_METRICS, *TRAIN_METRICS),
        max_norm=settings.max_norm,
        coordinate_drift=privacy.coordinate_drift if privacy else settings.coordinate_drift,
        coordinate_noise=privacy.coordinate_noise if privacy else 0.0,
        commit_window=settings.commit_window,
        attest_window=settings.attest_window,
        server=server_rule(settings),
        retention=Retention(evidence=settings.retain_evidence, models=settings.retain_models),
    )
    if privacy is None:
        return plan
    floor = noise_floor(
        coordinate_noise=privacy.least_noise * share_of(learner, manifest),
        step_exponent=plan.quantiser(manifest).step_exponent,
        size=manifest.size,
        norm_bound=plan.quantiser(manifest).norm_bound,
    )
    return replace(plan, screen=replace(plan.screen, noise_floor=floor))


def _write_hospitals(
    settings: Settings, cohorts: Cohorts, folder: Path, steps: Steps
) -> tuple[str, ...]:
    learner, plan = learner_of(settings, cohorts.train.vocabulary), train_plan(settings)
    with steps.bar("Preparing hospitals", len(cohorts.hospitals)) as advance:
        for number, rows in enumerate(cohorts.hospitals):
            home = folder / "hospitals" / str(number)
            home.mkdir(parents=True, mode=0o700)
            with tempfile.TemporaryDirectory(dir=home) as scratch:
                shard = hospital_shard(
                    settings,
                    cohorts.train,
                    rows,
                    number,
                    learner=learner,
                    plan=plan,
                    scratch=Path(scratch),
                )
                write_shard(home / "shard.npz", shard)
                del shard  # its films are mapped from the scratch folder
            atomic_write(home / "policy.toml", _policy(settings).encode(), mode=0o600)
            _new_account(home / "account.json", home / "password")
            advance()
    return tuple(f"hospital {number}" for number in range(len(cohorts.hospitals)))


def _policy(settings: Settings) -> str:
    if settings.epsilon:
        return (
            "# What this hospital lets a coordinator ask: nothing leaves but the private update.\n"
            f'privacy = "{settings.unit}"\n'
            f"max_epsilon = {settings.epsilon!r}\n"
            f"max_delta = {settings.delta!r}\n"
        )
    names = ", ".join(f'"{name}"' for name in sorted((*LOCAL_METRICS, *TRAIN_METRICS)))
    return (
        "# What this hospital lets a coordinator ask. Without privacy a federation here holds\n"
        "# phantoms or public images, so plain scores may leave.\n"
        f"metrics = [{names}]\n"
    )


def _new_account(keystore: Path, password_file: Path) -> LocalAccount:
    password = secrets.token_urlsafe(24)
    atomic_write(password_file, password.encode(), mode=0o600)
    return create_account(keystore, password, scrypt_n=SCRYPT_N_SIMULATION)


def _write_test(settings: Settings, cohort: Cohort | None, folder: Path) -> None:
    if cohort is None:
        return
    write_test_set(folder / "test.npz", cohort, films_of(settings, cohort))


def _write_model(
    settings: Settings, findings: tuple[str, ...], folder: Path, steps: Steps
) -> Draft:
    learner = learner_of(settings, findings)
    module = initial_module(settings, learner, findings)
    public = warm_start(settings, learner, module, folder, steps, findings)
    model = module_to_model(module, learner.shared(module))
    store = ObjectStore(folder / "models", ".safetensors")
    return Draft(
        folder=folder,
        learner=learner,
        manifest=Manifest.of_model(model),
        initial_model=store.put(encode_model(model)),
        warm_start=public,
        hospitals=(),
        findings=findings,
    )


def initial_module(settings: Settings, learner: Learner, findings: Sequence[str]) -> nn.Module:
    """Build the network from seed, published label shares and, where asked for, a weights file.

    Raises:
        DataError, ConfigError: the weights cannot be had, or do not fit.
    """
    module = learner.build(settings.seed, public_prior(findings))
    if settings.initial_weights:
        from client.learners.pretrained import load_pretrained

        load_pretrained(module, learner, settings.initial_weights)
    return module


def _write_coordinator(folder: Path) -> None:
    keys = folder / "keys"
    keys.mkdir(mode=0o700)
    _new_account(keys / "coordinator.json", keys / "password")
    password = (keys / "password").read_text()
    save_seal_key(keys / "seal-1.json", new_key(), password, epoch=1, scrypt_n=SCRYPT_N_SIMULATION)


def deploy(settings: Settings, draft: Draft, rpc: str, steps: Steps) -> Ledger:
    """Deploy the contract, register every hospital by its own transaction, write ``run.json``.

    Raises:
        LedgerUnavailable: the chain cannot be reached.
        ContractError: the contract refused (a wrong rule).
    """
    folder = draft.folder
    coordinator = load_account(
        folder / "keys" / "coordinator.json", (folder / "keys" / "password").read_text()
    )
    homes = [folder / "hospitals" / str(number) for number in range(len(draft.hospitals))]
    founders: list[str] = [
        load_account(home / "account.json", (home / "password").read_text()).address
        for home in homes
    ]
    rules = Rules(
        federation_id=secrets.token_bytes(32),
        initial_model=draft.initial_model,
        privacy_unit=Unit[settings.unit.upper()] if settings.epsilon else Unit.NONE,
        min_accepted_of_commits=round(settings.min_accepted * BASIS),
        min_accepted_of_members=round(settings.min_accepted * BASIS),
        max_silent_share=round(settings.silent_share * BASIS),
        share_cap=round(settings.share_cap * BASIS),
    )
    ledger = Ledger.deploy(connect(rpc), coordinator, rules, founders)
    privacy = privacy_of(settings, train_plan(settings))
    with steps.bar("Registering hospitals", len(homes)) as advance:
        for number, home in enumerate(homes):
            spec = HospitalSpec(
                name=draft.hospitals[number],
                rpc=rpc,
                anchors=ledger.anchors,
                seed=settings.seed + 1 + number,
                insecure_seed=settings.seed if privacy and privacy.insecure else -1,
            )
            spec.write(home)
            with closing(open_hospital(home)) as hospital:
                hospital.register(privacy.cap if privacy else NO_CAP, examples_of(home))
            advance()
    write_run(settings, draft, ledger.anchors, founders)
    return ledger


def examples_of(home: Path) -> int:
    """Return how many images a hospital trains on."""
    return len(read_shard(home / "shard.npz").train_pixels)


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
