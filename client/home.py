"""A hospital's home folder: what it is made of, and how the hospital is built from it.

::

    hospitals/<n>/hospital.json    who it is, where the chain is, what the anchors are
                  policy.toml      its own policy (absent: the strictest)
                  account.json     Ethereum keystore (0600)
                  password         of the keystore (0600), unless it comes from the environment
                  shard.npz        its radiographs and labels (0600)
                  transactions.jsonl  journal of what it signed
                  accountant.sqlite   what was spent, in a private federation
                  witness.json  spool/  models/   the agent's memory
                  training/checkpoint  a long round's training, until its update is finished

The folder is the hospital's authority: nothing in it is ever written from a server's message.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Final

from client.agent import Hospital
from client.checkpoint import Cadence, Desk
from client.evaluate_local import LocalEvaluator
from client.guard import NoPrivacy, PrivacyGuard
from client.hospital_log import note
from client.local_tensors import LocalTensors
from client.policy import Policy
from client.roles import Trainer
from client.shard import Shard, read_shard
from client.trainer import LocalTrainer
from ledger.anchors import Anchors
from ledger.canonical import canonical_json, parse_json
from ledger.chain import Ledger
from ledger.chain_rpc import connect
from ledger.errors import CodecError, ConfigError
from ledger.files import atomic_write, read_bounded, sweep
from ledger.keys import load_account, read_password
from ledger.statement import Unit
from ledger.txlog import TransactionLog

FORMAT: Final = "thoracle/hospital/v1"
SPEC_LIMIT: Final = 1 << 16


@dataclass(frozen=True, kw_only=True)
class HospitalSpec:
    """What ``hospital.json`` says; file names are relative to the home.

    Attributes:
        name: what people call it.
        rpc: HTTP address of the node (or of the proxy in front of it).
        anchors: which federation, given out of band.
        seed: of its training's randomness; never of privacy noise.
        insecure_seed: a known seed for privacy noise, in tests only; negative: the noise is secret.
        opening_epsilon: micro-epsilon spent on the same patients before this federation.
        keystore: its Ethereum keystore.
        password_file: where the keystore's password is; empty if it comes from the environment.
        password_env: name of that variable; empty if it comes from a file.
        shard: its data.
        confirmations: blocks above a record before it counts.
        first_block: no event of the contract is older.
    """

    name: str
    rpc: str
    anchors: Anchors
    seed: int = 0
    insecure_seed: int = -1
    opening_epsilon: int = 0
    keystore: str = "account.json"
    password_file: str = "password"  # noqa: S105 - a file name
    password_env: str = ""
    shard: str = "shard.npz"
    confirmations: int = 0
    first_block: int = 0

    def write(self, home: Path) -> None:
        """Write ``hospital.json`` durably.

        Raises:
            OutputError: it cannot be written.
        """
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["anchors"] = self.anchors.to_record()
        data = canonical_json({"format": FORMAT, **values})
        atomic_write(home / "hospital.json", data, mode=0o600)

    @classmethod
    def read(cls, home: Path) -> HospitalSpec:
        """Read ``hospital.json``.

        Raises:
            EvidenceMissing: there is none.
            ConfigError: it is not a hospital's.
        """
        try:
            value = parse_json(read_bounded(home / "hospital.json", SPEC_LIMIT), SPEC_LIMIT)
        except CodecError as error:
            raise ConfigError(f"hospital.json cannot be read: {error}") from None
        if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
            raise ConfigError(f"hospital.json is not of the format {FORMAT}")
        known = {item.name: item.type for item in fields(cls)}
        if set(value) != set(known):
            raise ConfigError(f"hospital.json lacks or adds {sorted(set(value) ^ set(known))}")
        for name, kind in known.items():
            wanted = {"str": str, "int": int}.get(str(kind), dict)
            if type(value[name]) is not wanted:
                raise ConfigError(f"hospital.json's {name} has the wrong type")
        return cls(**{**value, "anchors": Anchors.from_record(value["anchors"])})


def open_hospital(home: Path) -> Hospital:
    """Build the hospital of a home folder; the chain is checked against its anchors.

    Close it after use (``contextlib.closing``): its journal is an open file with one writer.
    Transactions that an earlier process signed and did not see mined are sent again first.

    Raises:
        ConfigError, PolicyError, DataError: its files cannot be used.
        InsecureKeyFile, KeyLocked, BadKey: its key cannot.
        WrongLedger, LedgerUnavailable: the chain is another one, or not there.
    """
    spec = HospitalSpec.read(home)
    for folder in (home, home / "models", home / "training", *sorted((home / "spool").glob("*"))):
        sweep(folder)
    policy = Policy.load(home / "policy.toml")
    password = (
        read_password(env=spec.password_env)
        if spec.password_env
        else read_password(file=home / spec.password_file)
    )
    account = load_account(home / spec.keystore, password)
    shard = read_shard(home / spec.shard)
    trainer, guard = training_of(home, spec, policy, shard)
    journal = TransactionLog(home / "transactions.jsonl")
    try:
        ledger = Ledger.attach(
            connect(spec.rpc),
            spec.anchors,
            spec.confirmations,
            journal=journal,
            first_block=spec.first_block,
        )
        ledger.recover()
        return Hospital(
            home,
            ledger,
            account,
            trainer,
            policy,
            guard=guard,
            evaluator=evaluator_of(shard, home),
            seed=spec.seed,
            on_close=journal.close,
        )
    except BaseException:
        journal.close()
        raise


def training_of(
    home: Path, spec: HospitalSpec, policy: Policy, shard: Shard
) -> tuple[Trainer, PrivacyGuard]:
    """Return trainer and guard: with privacy exactly if the hospital's own policy asks for it."""
    desk = Desk(
        folder=home / "training",
        data=(shard.train_pixels, shard.train_labels, shard.train_patients),
        cadence=Cadence(seconds=60.0 * policy.checkpoint_minutes),
    )
    if policy.privacy == "off":
        plain = LocalTrainer(
            pixels=shard.train_pixels,
            labels=shard.train_labels,
            terms=shard.terms,
            desk=desk,
            local=LocalTensors(folder=home / "local"),
        )
        return plain, NoPrivacy()
    from client.private_guard import PrivacyAccountGuard  # brings the accountant's libraries
    from client.private_trainer import PrivateTrainer

    trainer = PrivateTrainer(
        pixels=shard.train_pixels,
        labels=shard.train_labels,
        patients=shard.train_patients,
        insecure_seed=None if spec.insecure_seed < 0 else spec.insecure_seed,
        note=partial(note, home),
        terms=shard.terms,
        desk=desk,
    )
    guard = PrivacyAccountGuard(
        home / "accountant.sqlite",
        unit=Unit[policy.privacy.upper()],
        opening=spec.opening_epsilon,
        federation=f"{spec.anchors.federation_id.hex()}@{spec.anchors.contract}",
    )
    return trainer, guard


def evaluator_of(shard: Shard, home: Path | None = None) -> LocalEvaluator | None:
    """Return the evaluator of the held-back images; None if there are none."""
    if not len(shard.held_pixels):
        return None
    local = None if home is None else LocalTensors(folder=home / "local")
    return LocalEvaluator(pixels=shard.held_pixels, labels=shard.held_labels, local=local)
