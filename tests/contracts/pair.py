"""The contract and its oracle side by side: every call goes to both, and they must agree."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from eth_utils.address import to_checksum_address

from ledger.statement import Rules, pack_probes, seats_of
from tests.contracts.evm import CHAIN_ID, Event, Evm, Reverted
from tests.contracts.oracle import Oracle
from tests.contracts.oracle_members import Events, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

COORDINATOR = to_checksum_address("0x" + "c0" * 20)
HOSPITALS: list[str] = [to_checksum_address("0x" + f"{0xA0 + i:02x}" * 20) for i in range(16)]
STRANGER = to_checksum_address("0x" + "55" * 20)
RULES = Rules(federation_id=b"\x11" * 32, initial_model=b"\x22" * 32)
CAP = 8_000_000
NORM_BOUND = 1_000_000
WINDOW = 3600


class Pair:
    """A fresh federation; ``time`` is the chain's clock."""

    def __init__(
        self, *, rules: Rules = RULES, founders: list[str] = HOSPITALS[:4], registered: int = 0
    ) -> None:
        self.evm = Evm(rules.abi(), COORDINATOR, founders)
        contract = to_checksum_address(self.evm.address)
        self.oracle = Oracle(rules, CHAIN_ID, contract, COORDINATOR, founders)
        self.steps = 0
        assert self._log(self.evm.deployment.events)[:1] == self.oracle.genesis
        for name in founders[:registered]:
            self.do(name, "register", CAP, 0, 1000)

    @property
    def time(self) -> int:
        """Unix seconds of the next transaction."""
        return self.evm.time

    @time.setter
    def time(self, value: int) -> None:
        self.evm.time = value

    def do(self, sender: str, call: str, *arguments: Any) -> str | None:
        """Call both; return the name of the error they agree on, or ``None``."""
        self.steps += 1
        before = copy.deepcopy(self.oracle.__dict__)
        expected = self._outcome(lambda: getattr(self.oracle, call)(sender, self.time, *arguments))
        if isinstance(expected, tuple):
            assert self.oracle.__dict__ == before, f"the oracle changed before it refused {call}"
        found = self._outcome(lambda: self._log(self.evm.send(sender, call, *arguments).events))
        assert found == expected, f"{call}{arguments}"
        return expected[0] if isinstance(expected, tuple) else None

    @staticmethod
    def _outcome(call: Callable[[], Events]) -> Events | tuple[str, tuple[Any, ...]]:
        """Return the events, or the refusal's name and arguments."""
        try:
            return call()
        except (Refused, Reverted) as error:
            return error.name, error.arguments

    def check_state(self) -> None:
        """Compare every view."""
        oracle = self.oracle
        assert self.evm.call("head") == oracle.head
        assert self.evm.call("sequence") == oracle.sequence
        assert self.evm.call("model") == oracle.model
        assert self.evm.call("coordinator") == oracle.coordinator
        assert self.evm.call("rules") == oracle.rules.abi()
        assert self.evm.call("lastRound") == oracle.last_round()
        assert self.evm.call("seats") == list(oracle.hospitals)
        for name in oracle.hospitals:
            assert self.evm.call("member", name) == oracle.member(name)

    def _log(self, events: tuple[Event, ...]) -> list[tuple[str, dict[str, Any]]]:
        return [(event.name, event.args) for event in events]

    # ---- the honest way through a round ----

    def open(self, *, norm_bound: int = NORM_BOUND, must: bool = True) -> None:
        """Open a round as the coordinator should; it succeeds, unless it need not."""
        head, model = self.oracle.head, self.oracle.model
        config, key = b"\x33" * 32, b"\x44" * 32
        arguments = (head, model, config, key, norm_bound, WINDOW, WINDOW)
        error = self.do(self.oracle.coordinator, "openRound", *arguments)
        assert error is None or not must

    def commit(self, name: str, **changes: Any) -> str | None:
        """Commit as a hospital should, but for ``changes``."""
        spent = self.oracle.hospitals[name].spent if name in self.oracle.hospitals else 0
        charged = self.oracle.rules.privacy_unit != 0
        mechanism = (spent + 1000, 10**6, 10**7, 100, 10**7, bytes(32)) if charged else (0,) * 5
        fields: dict[str, Any] = {
            "open_head": self.oracle.round.open_head,
            "seal": b"\x55" * 32,
            "opening": b"\x66" * 32,
            "mechanism": mechanism if charged else (*mechanism, bytes(32)),
        } | changes
        return self.do(name, "commit", *fields.values())

    def propose(self, sender: str = COORDINATOR, **changes: Any) -> str | None:
        """Propose every commit, but for ``changes``; lengths follow the two bitmaps."""
        committed = self.oracle._bitmap(self.oracle.round.committed)
        accepted = changes.get("accepted", committed & ~changes.get("refused", 0))
        refused = changes.get("refused", committed & ~accepted)
        rows = [tuple((seat + 1) * (j - 8) for j in range(16)) for seat in seats_of(accepted)]
        fields: dict[str, Any] = {
            "number": self.oracle.round.number,
            "sum_digest": b"\x77" * 32,
            "model_digest": self.next_model(),
            "accepted": accepted,
            "refused": refused,
            "reasons": bytes([28]) * refused.bit_count(),
            "probes": pack_probes(rows),
        } | changes
        return self.do(sender, "propose", *fields.values())

    def next_model(self) -> bytes:
        """Return a model digest that differs by round."""
        return self.oracle.round.number.to_bytes(32, "big")

    def attest(self, name: str, **changes: Any) -> str | None:
        """Attest as a hospital should, but for ``changes``."""
        current = self.oracle.round
        fields = {"number": current.number, "head": current.proposed_head} | changes
        return self.do(name, "attest", *fields.values())

    def run_to_proposal(self, names: list[str]) -> None:
        """Open, commit and propose honestly."""
        self.open()
        for name in names:
            assert self.commit(name) is None
        self.time = self.oracle.round.commit_deadline
        assert self.propose() is None

    def run_round(self, names: list[str]) -> None:
        """Carry one honest round through."""
        self.run_to_proposal(names)
        for name in names:
            assert self.attest(name) is None
        assert self.do(STRANGER, "finalise", self.oracle.round.number) is None
