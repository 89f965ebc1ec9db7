"""The managed node with a real anvil: killed, damaged, restarted, and asked by many at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from typer.testing import CliRunner

from ledger.canonical import canonical_json
from ledger.chain import Ledger
from ledger.chain_commands import app
from ledger.chain_rpc import Patience, connect
from ledger.errors import (
    AlreadyCommitted,
    CommitWindowClosed,
    JournalCorrupt,
    LedgerError,
    LedgerUnavailable,
    NotMember,
    RunBusy,
)
from ledger.history import export_history, history_of_journal
from ledger.node import ManagedAnvil
from ledger.node_process import find_anvil
from ledger.node_rpc import AnvilNode
from ledger.reexecute import reexecute
from ledger.statement import Outcome, Unit
from ledger.witness import Witness
from tests.ledger.small_federation import Federation, account, found

pytestmark = [pytest.mark.e2e]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ManagedAnvil]:
    with ManagedAnvil(tmp_path / "chain") as running:
        yield running


def kill(node: ManagedAnvil) -> None:
    """Kill anvil as a power cut would: no dump, no farewell."""
    os.kill(node.pid, signal.SIGKILL)
    while node.alive():
        time.sleep(0.01)


def again(node: ManagedAnvil, fed: Federation) -> Ledger:
    return Ledger.attach(connect(node.url), fed.ledger.anchors)


def test_a_round_on_anvil_re_executes_exactly(node: ManagedAnvil) -> None:
    fed = found(connect(node.url), unit=Unit.PATIENT)
    number = fed.round(epsilon=1_000_000)
    closing = fed.ledger.closing(number)
    assert closing is not None
    assert closing.outcome is Outcome.SUM_VERIFIED
    for signer in (fed.coordinator, *fed.hospitals):
        assert fed.ledger.web3.eth.get_balance(signer.address) == 0
    history = export_history(fed.ledger)
    assert history["storage_root"] is not None
    result = reexecute(history).require()
    assert (result.head, result.sequence) == (fed.ledger.head(), fed.ledger.sequence())
    assert result.gas_used == result.gas_told
    journalled = reexecute(history_of_journal(node.journal, fed.ledger)).require()
    assert journalled.head == result.head
    assert abs(fed.ledger.clock() - time.time()) < 60


def test_errors_of_the_contract_arrive_with_their_arguments(node: ManagedAnvil) -> None:
    fed = found(connect(node.url))
    number = fed.open()
    fed.commit(fed.hospitals[0], number)
    with pytest.raises(AlreadyCommitted) as caught:
        fed.commit(fed.hospitals[0], number)
    assert caught.value.arguments == {"sender": fed.hospitals[0].address, "round": 1}
    with pytest.raises(NotMember) as stranger:
        fed.ledger.register(account("stranger"), 1, 0, 1)
    assert stranger.value.arguments == {"sender": account("stranger").address}
    node.admin("evm_increaseTime", 601)
    with pytest.raises(CommitWindowClosed):
        fed.commit(fed.hospitals[1], number)


def test_a_commit_seen_then_lost_comes_back(node: ManagedAnvil, tmp_path: Path) -> None:
    """receipt_seen_then_lost: kill -9 within the second in which anvil had not dumped it."""
    fed = found(connect(node.url))
    witness = Witness(tmp_path / "witness.json", fed.ledger)
    number = fed.open()
    fed.commit(fed.hospitals[0], number)
    seen, opening = witness.advance(), fed.ledger.opening(number)
    kill(node)
    node.restart()
    ledger = again(node, fed)
    assert ledger.tip() == seen
    assert ledger.opening(number) == opening
    assert list(ledger.commits(number)) == [fed.hospitals[0].address]
    assert Witness(tmp_path / "witness.json", ledger).check() == seen
    commits = [e for e in ledger.events() if e.name == "Committed"]
    assert len(commits) == 1
    fed.commit(fed.hospitals[1], number)
    assert len(ledger.commits(number)) == 2
    assert abs(ledger.clock() - time.time()) < 60


def test_a_commit_that_was_never_answered_is_there_once(node: ManagedAnvil) -> None:
    """receipt_lost_but_persisted, and one that was journalled but never reached anvil."""
    fed = found(connect(node.url))
    number = fed.open()
    raws: list[bytes] = []
    held = node.submit
    node._filter.submit = lambda raw: raws.append(raw) or {"error": {"code": 1, "message": "lost"}}  # type: ignore[union-attr, func-returns-value]
    for hospital in fed.hospitals[:2]:
        with pytest.raises(LedgerError):
            fed.commit(hospital, number)
    node._filter.submit = held  # type: ignore[union-attr]
    persisted, lost = raws
    node.journal.signed(persisted)
    with AnvilNode(node._anvil_port) as anvil:
        assert anvil.send(persisted) is None
    node.journal.signed(lost)
    node.restart()
    ledger = again(node, fed)
    assert set(ledger.commits(number)) == {h.address for h in fed.hospitals[:2]}
    assert len([e for e in ledger.events() if e.name == "Committed"]) == 2
    assert all(entry.mined is not None for entry in node.journal.entries())
    # The hospital, which heard nothing, sends the same bytes again: no error, still one commit.
    ledger.web3.eth.send_raw_transaction(lost)
    assert len([e for e in ledger.events() if e.name == "Committed"]) == 2


@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_damaged_dump_is_rebuilt_from_the_journal(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "chain"
    with ManagedAnvil(folder) as node:
        fed = found(connect(node.url))
        fed.round()
        tip = fed.ledger.tip()
        storage = export_history(fed.ledger)["storage_root"]
    state = folder / "anvil-state.json"
    if damage == "missing":
        state.unlink()
    else:
        data = state.read_bytes()
        state.write_bytes(b"" if damage == "empty" else data[: len(data) // 2])
    with ManagedAnvil(folder) as node:
        ledger = again(node, fed)
        assert ledger.tip() == tip
        assert export_history(ledger)["storage_root"] == storage
    assert len(list(folder.glob("anvil-state.damaged-*"))) == (damage != "missing")


def test_a_state_that_contradicts_the_journal_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "chain"
    with ManagedAnvil(folder) as node:
        fed = found(connect(node.url), hospitals=1)
        fed.ledger.set_weight(fed.hospitals[0], 77)
    path = folder / "transactions.jsonl"
    text = path.read_text()
    weight = f"{77:064x}"
    assert weight in text
    lines = text.splitlines(keepends=True)
    lines[-1] = lines[-1].replace(weight, f"{78:064x}")
    path.write_text("".join(lines))
    with pytest.raises(JournalCorrupt):
        ManagedAnvil(folder).start()


def test_all_that_an_audit_reads_survives_a_reload(node: ManagedAnvil) -> None:
    """Blocks, transactions, receipts, and the proof of the newest state; older states do not."""
    fed = found(connect(node.url), hospitals=1)
    early = fed.ledger.tip().block
    fed.ledger.set_weight(fed.hospitals[0], 5)
    before = export_history(fed.ledger)
    node.stop()
    node.start()
    assert export_history(fed.ledger) == before
    proof = node.admin("eth_getProof", fed.ledger.anchors.contract, [], "latest")
    assert proof["storageHash"] == before["storage_root"]
    assert len(connect(node.url).eth.get_block_receipts(early)) == 1


def test_the_note_of_the_last_dump_is_true(tmp_path: Path) -> None:
    import hashlib

    with ManagedAnvil(tmp_path) as node:
        found(connect(node.url), hospitals=1)
    record = json.loads((tmp_path / "node.json").read_text())
    digest = hashlib.sha256((tmp_path / "anvil-state.json").read_bytes()).hexdigest()
    assert record["state_sha256"] == digest


def test_a_dead_node_is_unavailable_and_a_restart_keeps_its_address(node: ManagedAnvil) -> None:
    fed = found(connect(node.url), hospitals=1)
    hasty = Ledger(connect(node.url), fed.ledger.anchors, patience=Patience(outage=0.3))
    url = node.url
    kill(node)
    for act in (hasty.head, lambda: hasty.set_weight(fed.hospitals[0], 3)):
        with pytest.raises(LedgerUnavailable):
            act()
    node.restart()
    assert node.url == url
    assert hasty.tip().sequence == 1
    hasty.set_weight(fed.hospitals[0], 3)


def test_a_nonce_with_a_gap_is_refused_at_once(node: ManagedAnvil) -> None:
    web3 = connect(node.url)
    signer = account("anyone")
    fields: dict[str, Any] = {
        "nonce": 5,
        "gas": 21_000,
        "maxFeePerGas": 0,
        "maxPriorityFeePerGas": 0,
        "chainId": 31337,
        "to": signer.address,
        "value": 0,
        "type": 2,
    }
    raw = bytes(signer.sign_transaction(fields).raw_transaction)
    body: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "eth_sendRawTransaction",
        "params": [f"0x{raw.hex()}"],
    }
    answer = requests.post(node.url, json=body, timeout=30).json()
    assert "nonce" in answer["error"]["message"]
    assert web3.eth.block_number == 0
    node.restart()
    assert web3.eth.block_number == 0
    fields["nonce"] = 0
    web3.eth.send_raw_transaction(signer.sign_transaction(fields).raw_transaction)
    assert web3.eth.block_number == 1


def test_many_hospitals_at_once_each_have_their_block(node: ManagedAnvil) -> None:
    fed = found(connect(node.url), hospitals=6)
    number = fed.open()
    ledgers = [again(node, fed) for _ in fed.hospitals]

    def commit(index: int) -> int:
        own = Federation(
            ledger=ledgers[index], coordinator=fed.coordinator, hospitals=fed.hospitals
        )
        own.commit(fed.hospitals[index], number)
        return int(ledgers[index].events()[-1].block)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(commit, range(6)))
    commits = [e for e in fed.ledger.events() if e.name == "Committed"]
    assert {e.args["hospital"] for e in commits} == {h.address for h in fed.hospitals}
    assert len({e.block for e in commits}) == 6
    reexecute(export_history(fed.ledger)).require()


def test_two_nodes_never_share_a_folder(node: ManagedAnvil) -> None:
    with pytest.raises(RunBusy):
        ManagedAnvil(node.folder).start()
    assert node.alive()


_PARENT = """
import sys, time
from pathlib import Path
from ledger.node import ManagedAnvil
node = ManagedAnvil(Path(sys.argv[1])).start()
print(node.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_anvil_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    with subprocess.Popen(  # noqa: S603 - this very interpreter
        [sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        if state == "Z":  # ended; only its new parent has not noticed
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_anvil_is_not_given_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THORACLE_PASSWORD", "secret")
    with ManagedAnvil(tmp_path) as node:
        if sys.platform == "linux":
            environment = Path(f"/proc/{node.pid}/environ").read_bytes()
            assert b"secret" not in environment
            assert (
                Path(find_anvil()).name.encode() in Path(f"/proc/{node.pid}/cmdline").read_bytes()
            )


def test_the_commands_read_a_finished_run_and_leave_it_untouched(tmp_path: Path) -> None:
    with ManagedAnvil(tmp_path / "chain") as node:
        fed = found(connect(node.url))
        fed.round()
        head = fed.ledger.head()
    run = {"format": "thoracle/run/v1", "anchors": fed.ledger.anchors.to_record()}
    (tmp_path / "run.json").write_bytes(canonical_json(run))
    before = {p.name: p.read_bytes() for p in (tmp_path / "chain").iterdir() if p.is_file()}
    runner = CliRunner()
    shown = runner.invoke(app, ["show", str(tmp_path), "--json"], catch_exceptions=False)
    record = json.loads(shown.stdout)
    assert record["head"] == f"0x{head.hex()}"
    assert record["rounds"][0]["outcome"] == "sum_verified"
    assert record["rounds"][0]["reasons"] == {"2": "InertUpdate"}
    assert [m["weight"] for m in record["members"]] == [100, 110, 120]
    listed = runner.invoke(app, ["events", str(tmp_path), "--json"], catch_exceptions=False)
    names = [event["name"] for event in json.loads(listed.stdout)]
    assert names.count("HeadAdvanced") == 7
    assert names[-1] == "Finalised"
    ran = runner.invoke(app, ["reexecute", str(tmp_path), "--json"], catch_exceptions=False)
    assert json.loads(ran.stdout)["differences"] == []
    assert ran.exit_code == 0
    for command in ("show", "events", "reexecute"):
        assert runner.invoke(app, [command, str(tmp_path)], catch_exceptions=False).exit_code == 0
    after = {p.name: p.read_bytes() for p in (tmp_path / "chain").iterdir() if p.is_file()}
    assert after == before


_UP = "from ledger.chain_commands import app; app()"


def test_a_node_stands_alone_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with subprocess.Popen(  # noqa: S603 - this very interpreter
        [sys.executable, "-c", _UP, "up", str(tmp_path / "chain"), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2].rstrip(",")
        fed = found(connect(url), hospitals=1)
        tip = fed.ledger.tip()
        process.terminate()
        assert process.wait(timeout=60) == 0
    with ManagedAnvil(tmp_path / "chain") as node:
        assert again(node, fed).tip() == tip
