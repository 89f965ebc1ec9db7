"""A small federation on any chain: founded, registered, and able to run honest rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from ledger.canonical import sha256
from ledger.chain import Ledger
from ledger.errors import InertUpdate
from ledger.statement import PROBES, Mechanism, Rules, Unit, bitmap_of
from ledger.txlog import TransactionLog

FEDERATION = sha256(b"federation")
INITIAL = sha256(b"initial model")
CAP = 8_000_000
PROBE_ROWS = {
    seat: tuple((-1) ** j * (10**9 * (seat + 1) + j) for j in range(PROBES)) for seat in range(8)
}


def account(name: str) -> LocalAccount:
    found: LocalAccount = Account.from_key(sha256(b"account", name.encode()))
    return found


def rules(unit: Unit = Unit.NONE, **changes: int) -> Rules:
    return Rules(federation_id=FEDERATION, initial_model=INITIAL, privacy_unit=unit, **changes)


@dataclass
class Federation:
    """The parties and their ledger."""

    ledger: Ledger
    coordinator: LocalAccount
    hospitals: list[LocalAccount]

    def open(self, **changes: int) -> int:
        self.ledger.open_round(
            self.coordinator,
            base_model=self.ledger.model(),
            config_digest=sha256(b"config"),
            key_digest=sha256(b"keys"),
            commit_window=changes.get("commit_window", 600),
            attest_window=changes.get("attest_window", 600),
            norm_bound=changes.get("norm_bound", 2**39),
        )
        return self.ledger.round().number

    def commit(self, hospital: LocalAccount, number: int, epsilon: int = 0) -> bytes:
        mechanism = Mechanism()
        if epsilon:
            mechanism = Mechanism(
                epsilon=epsilon, noise_multiplier=10**6, sample_rate=10**7, steps=10, delta=10**7
            )
        return self.ledger.commit(
            hospital,
            open_head=self.ledger.opening(number).open_head,
            seal_digest=sha256(b"seal", hospital.address.encode(), bytes([number])),
            opening_digest=sha256(b"opening", hospital.address.encode(), bytes([number])),
            mechanism=mechanism,
        ).tx_hash

    def propose(self, number: int, refused: Mapping[int, int] | None = None) -> bytes:
        reasons = dict(refused or {})
        accepted = [s for s in range(len(self.hospitals)) if s not in reasons]
        self.ledger.propose(
            self.coordinator,
            round=number,
            sum_digest=sha256(b"sum", bytes([number])),
            model_digest=sha256(b"model", bytes([number])),
            accepted=bitmap_of(accepted),
            refused=bitmap_of(list(reasons)),
            reasons=reasons,
            probes={seat: PROBE_ROWS[seat] for seat in accepted},
        )
        return self.ledger.round().proposed_head

    def round(self, epsilon: int = 0) -> int:
        """Run one round in which the last hospital is refused and contests it."""
        number = self.open()
        for hospital in self.hospitals:
            self.commit(hospital, number, epsilon)
        last = len(self.hospitals) - 1
        head = self.propose(number, {last: InertUpdate.code})
        for hospital in self.hospitals[:last]:
            self.ledger.attest(hospital, number, head)
        self.ledger.contest(self.hospitals[last], number, InertUpdate.code)
        self.ledger.finalise(self.hospitals[0], number)
        return number


def found(
    web3: Web3,
    *,
    hospitals: int = 3,
    unit: Unit = Unit.NONE,
    journal: TransactionLog | None = None,
    name: str = "",
    **changes: int,
) -> Federation:
    """Deploy and register; ``name`` makes the accounts other ones."""
    coordinator = account(f"{name}coordinator")
    parties = [account(f"{name}hospital {i}") for i in range(hospitals)]
    ledger = Ledger.deploy(
        web3, coordinator, rules(unit, **changes), [p.address for p in parties], journal=journal
    )
    for i, party in enumerate(parties):
        ledger.register(party, 0 if unit is Unit.NONE else CAP, 0, 100 + 10 * i)
    return Federation(ledger=ledger, coordinator=coordinator, hospitals=parties)
