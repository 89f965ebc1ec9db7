"""From settings to a run folder that lacks only its chain: data, keys and the initial model.

Everything that can be refused is refused before the run folder exists: it is built beside its
place and moved there whole. Only then is the chain started, in the folder it stays in.

In this one-machine federation all parties' keys lie in the run folder, each readable by its owner
only, under passwords in files beside them. A deployment gives every party its own machine.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from eth_account.signers.local import LocalAccount
from torch import nn

from client.data.records import Cohort
from client.evaluate_local import LOCAL_METRICS
from client.learners import module_to_model
from client.learners.interface import Learner
from client.shard import write_shard
from client.trainer import TRAIN_METRICS
from ledger.errors import ConfigError, OutputError
from ledger.files import ObjectStore, atomic_write
from ledger.keys import SCRYPT_N_SIMULATION, create_account, save_seal_key
from ledger.manifest import Manifest, encode_model
from ledger.seal import new_key
from simulation.cohorts import Cohorts, films_of, gather, preprocessing_of
from simulation.planning import check_plans, learner_of, train_plan
from simulation.priors import public_prior
from simulation.privacy import announced, check_cohorts, check_learner, privacy_of
from simulation.progress import Steps
from simulation.run_record import Draft
from simulation.settings import Settings
from simulation.shards import hospital_shard
from simulation.testset import write_test_set
from simulation.warm_start import check_public, warm_start


def build_folder(settings: Settings, out: Path, steps: Steps) -> Draft:
    """Make the run folder with data, keys and the initial model, whole or not at all.

    Raises:
        OutputError: ``out`` is not empty, or cannot be written.
        DataError, ConfigError: the data or the settings cannot be used. Nothing is left behind.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"the run folder {out} is not empty; choose another name or remove it")
    check_public(settings)
    learner = learner_of(settings)  # these refuse wrong options before any work
    check_plans(settings, learner)
    check_learner(settings, learner)
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
    why = learner.needs_weights()
    if why and not settings.initial_weights:
        raise ConfigError(f"learner {learner.name}: {why}; give initial_weights")
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
