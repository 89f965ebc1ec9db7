"""What can be wrong with a hospital's home folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from client.home import HospitalSpec
from client.policy import Policy
from client.spool import Spool
from ledger.doctor import (
    Symptom,
    examine_database,
    examine_journal,
    examine_objects,
    examine_private,
    examine_storage,
    examine_witness,
    of_error,
)
from ledger.errors import EvidenceMissing, ThoracleError
from ledger.files import ObjectStore


def diagnose_home(home: Path) -> Iterator[Symptom]:
    """Examine a hospital's home: disk, journal, accountant, spool, keys and data."""
    try:
        spec = HospitalSpec.read(home)
        Policy.load(home / "policy.toml")
    except ThoracleError as error:
        yield of_error(error, "hospital.json", "restore the home from its backup")
        return
    yield from examine_storage(home)
    if (home / "transactions.jsonl").is_file():
        yield from examine_journal(home / "transactions.jsonl", home)
    if (home / "accountant.sqlite").is_file():
        yield from examine_database(home / "accountant.sqlite", home)
    yield from examine_witness(home / "witness.json", home)
    yield from examine_objects(ObjectStore(home / "models", ".safetensors"), home)
    yield from _spool(home)
    wanted = [home / spec.keystore, home / spec.shard]
    if spec.password_file:
        wanted.append(home / spec.password_file)
    yield from examine_private(wanted, home)


def _spool(home: Path) -> Iterator[Symptom]:
    """Read every finished update back, as sending it again would."""
    if not (home / "spool").is_dir():
        return
    spool = Spool(home / "spool")
    for folder in sorted((home / "spool").iterdir()):
        if not folder.name.isdigit():
            continue
        try:
            entry = spool.entry(int(folder.name))
            if entry is not None:
                spool.sealed(entry)
                spool.update(entry)
            spool.verdict(int(folder.name))
        except EvidenceMissing as error:
            yield of_error(error, f"spool/{folder.name}", "restore it from the home's backup")
        except ThoracleError as error:
            yield of_error(
                error,
                f"spool/{folder.name}",
                "restore it from the home's backup; this hospital misses this round otherwise",
            )
