"""What the coordinator is made of on disk, and how it is built from it.

::

    runs/NAME/coordinator.json       where the chain is, the anchors, the plan, the manifest
              keys/coordinator.json  Ethereum keystore (0600)
              keys/seal-<epoch>.json sealing keys, one an epoch (0600)
              keys/password          of all of them (0600), unless it comes from the environment
              keys/transactions.jsonl  journal of what the coordinator signed
              witness.json           every head the coordinator has seen

The rest of the run folder is described in ``server.store``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from ledger.anchors import Anchors
from ledger.canonical import canonical_json, parse_json
from ledger.chain import Ledger
from ledger.chain_rpc import connect
from ledger.errors import BadKey, CodecError, ConfigError
from ledger.files import atomic_write, read_bounded
from ledger.keys import load_account, load_seal_key, read_password
from ledger.manifest import Manifest
from ledger.retention import Retention
from ledger.server_rule import ServerRule
from ledger.txlog import TransactionLog
from ledger.witness import Witness
from server.phases import PhasePlan
from server.plan import Keyring, RoundPlan
from server.rounds import Coordinator, Wait
from server.screen import ScreenPolicy
from server.store import RunStore

FORMAT: Final = "thoracle/coordinator/v1"
FILE: Final = "coordinator.json"
SPEC_LIMIT: Final = 4 << 20


@dataclass(frozen=True, kw_only=True)
class CoordinatorSpec:
    """What ``coordinator.json`` says; file names are relative to the run folder.

    Attributes:
        rpc: HTTP address of the node (or of the allow-list in front of it).
        anchors: which federation.
        plan: what its rounds ask for.
        manifest: of the model.
        auditors: public keys updates are also sealed to.
        keystore: the coordinator's Ethereum keystore.
        password_file: where the password of its keys is; empty if it comes from the environment.
        password_env: name of that variable; empty if it comes from a file.
        confirmations: blocks above a record before it counts.
        first_block: no event of the contract is older.
    """

    rpc: str
    anchors: Anchors
    plan: RoundPlan
    manifest: Manifest
    auditors: tuple[bytes, ...] = field(default=(), repr=False)
    keystore: str = "keys/coordinator.json"
    password_file: str = "keys/password"  # noqa: S105 - a file name
    password_env: str = ""
    confirmations: int = 0
    first_block: int = 0

    def write(self, run: Path) -> None:
        """Write ``coordinator.json`` durably.

        Raises:
            OutputError: it cannot be written.
        """
        values: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        values |= {
            "anchors": self.anchors.to_record(),
            "plan": plan_to_json(self.plan),
            "manifest": self.manifest.to_json(),
            "auditors": [key.hex() for key in self.auditors],
        }
        atomic_write(run / FILE, canonical_json({"format": FORMAT, **values}))

    @classmethod
    def read(cls, run: Path) -> CoordinatorSpec:
        """Read ``coordinator.json``.

        Raises:
            EvidenceMissing: there is none.
            ConfigError: it is not a coordinator's.
        """
        try:
            value = parse_json(read_bounded(run / FILE, SPEC_LIMIT), SPEC_LIMIT)
            if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
                raise ConfigError(f"{FILE} is not of the format {FORMAT}")
            known = {item.name for item in fields(cls)}
            if set(value) != known:
                raise ConfigError(f"{FILE} lacks or adds {sorted(set(value) ^ known)}")
            return cls(
                **{
                    **value,
                    "anchors": Anchors.from_record(value["anchors"]),
                    "plan": plan_from_json(value["plan"]),
                    "manifest": Manifest.from_json(value["manifest"]),
                    "auditors": tuple(bytes.fromhex(key) for key in value["auditors"]),
                }
            )
        except (CodecError, TypeError, ValueError) as error:
            raise ConfigError(f"{FILE} cannot be read: {error}") from None


def plan_to_json(plan: RoundPlan) -> dict[str, object]:
    """Return a plan as plain JSON values."""
    values: dict[str, object] = {item.name: getattr(plan, item.name) for item in fields(plan)}
    return values | {
        "screen": plan.screen.to_config(),
        "metrics": list(plan.metrics),
        "retention": plan.retention.to_config(),
        "server": plan.server.to_config(),
        "travels": list(plan.travels),
        "phases": [phase.to_json() for phase in plan.phases],
    }


def plan_from_json(value: object) -> RoundPlan:
    """Read a plan back.

    Raises:
        ConfigError: it is not a plan.
        PolicyError: its screen is misconfigured.
    """
    known = {item.name for item in fields(RoundPlan)}
    # Runs that were prepared before there were phases can still be taken up.
    value = {"travels": [], "phases": [], **value} if isinstance(value, dict) else {}
    if set(value) != known:
        raise ConfigError("the plan of the rounds lacks or adds fields")
    return RoundPlan(
        **{
            **value,
            "screen": ScreenPolicy.from_config(value["screen"]),
            "metrics": tuple(map(str, value["metrics"])),
            "retention": Retention.of_config(value),
            "server": ServerRule.of_config(value),
            "travels": tuple(map(str, value["travels"])),
            "phases": tuple(map(PhasePlan.from_json, value["phases"])),
        }
    )


def open_coordinator(run: Path, *, wait: Wait | None = None) -> Coordinator:
    """Build the coordinator of a run folder; the chain is checked against its anchors.

    Transactions that an earlier process signed and did not see mined are sent again first.

    Raises:
        ConfigError, EvidenceMissing: its files cannot be used.
        InsecureKeyFile, KeyLocked, BadKey: its keys cannot.
        RunBusy: another process is working on this run.
        WrongLedger, LedgerUnavailable: the chain is another one, or not there.
        LedgerRollback, HeadMismatch: it is an older state than this run has seen, or another past.
        ClockSkew: the chain's clock and this machine's differ too much.
    """
    spec = CoordinatorSpec.read(run)
    password = (
        read_password(env=spec.password_env)
        if spec.password_env
        else read_password(file=run / spec.password_file)
    )
    account = load_account(run / spec.keystore, password)
    keyring = load_keyring(run / "keys", password, spec.auditors)
    ledger = Ledger.attach(
        connect(spec.rpc),
        spec.anchors,
        spec.confirmations,
        journal=TransactionLog(run / "keys" / "transactions.jsonl"),
        first_block=spec.first_block,
    )
    ledger.recover()
    witness = Witness(run / "witness.json", ledger)
    witness.advance()
    return Coordinator(
        store=RunStore(run),
        ledger=ledger,
        account=account,
        keyring=keyring,
        plan=spec.plan,
        manifest=spec.manifest,
        wait=wait,
        witness=witness,
    )


def load_keyring(folder: Path, password: str, auditors: tuple[bytes, ...] = ()) -> Keyring:
    """Load every epoch's sealing key of a folder.

    Raises:
        BadKey: there is none, or one is not valid.
        InsecureKeyFile, KeyLocked: one cannot be used.
    """
    paths = sorted(folder.glob("seal-*.json"))
    if not paths:
        raise BadKey("the coordinator has no sealing key")
    return Keyring(keys=tuple(load_seal_key(path, password) for path in paths), auditors=auditors)
