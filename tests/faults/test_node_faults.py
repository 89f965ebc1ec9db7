"""The chain's node is killed at every durable step it takes with a transaction: real anvil."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from eth_account import Account

from ledger.chain_rpc import connect
from ledger.node import ManagedAnvil
from ledger.steps import Kind, Phase, watched
from tests.faults.injector import HALF_A_LINE, Killed, Recorder, Step, Stop, StopOnce, modes

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
SENDER = Account.from_key(bytes(31) + b"\5")


def raw(nonce: int) -> bytes:
    """Return a signed transaction that stores something: a contract of one byte."""
    fields = {"nonce": nonce, "chainId": 31337, "gas": 100_000, "value": 0, "to": "",
              "data": "0x6001600c60003960016000f300", "maxFeePerGas": 0,
              "maxPriorityFeePerGas": 0, "type": 2}  # fmt: skip
    return bytes(SENDER.sign_transaction(fields).raw_transaction)


def power_cut(node: ManagedAnvil) -> None:
    """End everything as a power cut does: nothing is told, nothing is dumped."""
    process = node._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    node._process = None
    assert node._filter is not None
    node._filter.close()
    node._filter = None
    node.journal.close()
    node._lock.release()


def steps_of_a_transaction(folder: Path) -> list[Step]:
    recorder = Recorder(folder, {})
    with ManagedAnvil(folder / "chain") as node, watched(recorder):
        node.submit(raw(0))
        return list(recorder.steps)


def test_a_node_killed_at_every_step(tmp_path: Path) -> None:
    """Each transaction is mined exactly once, in a block of its own, with its time kept."""
    steps = steps_of_a_transaction(tmp_path)
    assert [step.kind for step in steps] == ["append", "broadcast", "append"]
    folder, nonce = tmp_path / "killed", 0
    for step in steps:
        for mode in modes(step):
            node = ManagedAnvil(folder).start()
            watcher = Nth(folder, {}, stop=Stop(step, mode), order=steps)
            with watched(watcher), pytest.raises(Killed):
                node.submit(raw(nonce))
            power_cut(node)
            node = ManagedAnvil(folder).start()
            node.submit(raw(nonce))  # its sender never heard, so it sends again
            nonce += 1
            eth = connect(node.url).eth
            assert eth.get_transaction_count(SENDER.address) == nonce, (step, mode)
            assert eth.block_number == nonce
            assert all(entry.mined is not None for entry in node.journal.entries())
            assert [e.mined.block for e in node.journal.entries() if e.mined] == [
                *range(1, nonce + 1)
            ]
            power_cut(node)
    assert HALF_A_LINE not in (folder / "transactions.jsonl").read_bytes()


class Nth(StopOnce):
    """Stops at the same place in the order of steps: the transaction's digest differs."""

    def __init__(self, root: Path, parties: dict[str, str], *, stop: Stop, order: list[Step]):
        super().__init__(root, parties, stop=stop)
        self._order = order

    def name(self, kind: Kind, what: str) -> Step:
        return self._order[min(len(self.steps), len(self._order) - 1)]

    def stops(self, step: Step, phase: Phase) -> str:
        return super().stops(step, phase)


def test_one_damaged_dump_is_kept_to_look_at(tmp_path: Path) -> None:
    """Each is as large as the chain: a node that is killed often must not fill the disk."""
    folder = tmp_path / "chain"
    with ManagedAnvil(folder) as node:
        node.submit(raw(0))
    for times in range(2):
        (folder / "anvil-state.json").write_bytes(b'{"cut')
        with ManagedAnvil(folder) as node:
            assert connect(node.url).eth.block_number == 1, times
    assert len(list(folder.glob("anvil-state.damaged-*.json"))) == 1
