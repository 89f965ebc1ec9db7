"""A prepared run's chain: the contract deployed, every hospital registered by itself."""

from __future__ import annotations

import secrets
from contextlib import closing
from pathlib import Path

from client.home import HospitalSpec, open_hospital
from client.shard import read_shard
from ledger.chain import Ledger
from ledger.chain_rpc import connect
from ledger.keys import load_account
from ledger.statement import BASIS, Rules, Unit
from simulation.planning import train_plan
from simulation.privacy import privacy_of
from simulation.progress import Steps
from simulation.run_record import Draft, write_run
from simulation.settings import Settings

NO_CAP = 2**40 - 1
"""The cap of a hospital in a federation without privacy: nothing is ever charged against it."""


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
