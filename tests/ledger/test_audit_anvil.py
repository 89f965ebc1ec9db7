"""The audit of a chain that a real anvil kept: its headers, proofs, state file and journal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger.archive import FolderSource
from ledger.audit import AuditReport, audit
from ledger.bundle import FILE
from ledger.canonical import canonical_json
from ledger.chain_rpc import connect
from ledger.errors import JournalCorrupt
from ledger.node import ManagedAnvil
from ledger.run_facts import held_keys, read_anchors, read_facts
from tests.ledger.audited_run import Federation

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anvil") / "run"
    with ManagedAnvil(folder / "chain") as node:
        federation = Federation(folder, web3=connect(node.url))
        federation.play()
        federation.write_run()
    return folder


@pytest.fixture
def run(kept: Path, tmp_path: Path) -> Path:
    shutil.copytree(kept, tmp_path / "run")
    return tmp_path / "run"


def audited(run: Path) -> AuditReport:
    keys, _ = held_keys(run)
    trusted = read_anchors(run / "run.json")
    return audit(read_facts(FolderSource(run), keys=keys, trusted=trusted))


def failed(report: AuditReport) -> set[tuple[str, str]]:
    return {(item.error, item.check) for item in report.findings if item.severity == "failure"}


def test_a_run_on_anvil_holds_at_every_level(kept: Path) -> None:
    report = audited(kept)
    assert report.findings == ()
    assert report.reached == ("chain", "models", "replay")
    checks = report.passed["chain"]
    assert checks["account proof"] == 1
    assert checks["state file digest"] == 1
    assert checks["state file blocks"] == report.blocks
    assert checks["journalled effects"] == report.transactions


def test_an_edited_slot_of_the_state_file_is_named(run: Path) -> None:
    path = run / "chain" / "anvil-state.json"
    state = json.loads(path.read_text())
    contract = read_anchors(run / "run.json").contract.lower()
    storage = state["accounts"][contract]["storage"]
    slot = next(key for key, value in sorted(storage.items()) if int(value, 16))
    storage[slot] = "0x" + f"{int(storage[slot], 16) ^ 1:064x}"
    path.write_text(json.dumps(state))
    report = audited(run)
    assert failed(report) >= {
        ("EventMismatch", "state file storage"),
        ("EventMismatch", "state file digest"),
    }
    assert any(f"slot 0x{int(slot, 16):x} " in item.sentence for item in report.findings)


def test_any_other_byte_of_the_state_file_is_seen(run: Path) -> None:
    path = run / "chain" / "anvil-state.json"
    state = json.loads(path.read_text())
    state["accounts"]["0x" + "11" * 20] = {
        "nonce": 0,
        "balance": "0x1",
        "code": "0x",
        "storage": {},
    }
    path.write_text(json.dumps(state))
    assert failed(audited(run)) == {("EventMismatch", "state file digest")}


def test_a_state_file_of_a_killed_node_is_not_compared(run: Path) -> None:
    """After kill -9 the file may lag: the bundle decides, and the report says so."""
    for name in ("anvil-state.json", "node.json"):
        path = run / "chain" / name
        state = json.loads(path.read_text())
        if name == "node.json":
            state["state_sha256"] = None
        else:
            state["blocks"] = [
                block for block in state["blocks"] if int(block["header"]["number"], 16) < 5
            ]
        path.write_text(json.dumps(state))
    report = audited(run)
    assert report.clean
    assert [item.check for item in report.findings] == ["state file"]


def edit_journal(run: Path, edit: Callable[[dict[str, Any]], object], mark: str) -> None:
    """Edit the last mined transaction's line that holds ``mark``."""
    path = run / "chain" / "transactions.jsonl"
    lines = path.read_bytes().splitlines()
    at = max(
        i for i, line in enumerate(lines) if b'"kind":"mined"' in line and mark.encode() in line
    )
    record = json.loads(lines[at])
    edit(record)
    lines[at] = canonical_json(record)
    path.write_bytes(b"\n".join(lines) + b"\n")


def test_an_edited_journal_is_named(run: Path) -> None:
    edit_journal(run, lambda record: record.update(timestamp=record["timestamp"] + 1), "")
    assert failed(audited(run)) == {("JournalCorrupt", "journalled effects")}


def test_an_edited_event_of_the_journal_is_named(run: Path) -> None:
    edit_journal(run, lambda record: record["logs"][0].update(data="0x00"), "topics")
    assert failed(audited(run)) == {("JournalCorrupt", "journalled events")}


def test_a_journal_that_lacks_a_field_is_an_error_of_ours(run: Path) -> None:
    edit_journal(run, lambda record: record.pop("timestamp"), "")
    with pytest.raises(JournalCorrupt, match="cannot be read back"):
        audited(run)


def test_a_journal_cut_within_its_last_line_is_an_error_of_ours(run: Path) -> None:
    path = run / "chain" / "transactions.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(JournalCorrupt, match="ends within a line"):
        audited(run)


def test_a_run_that_never_exported_its_chain_is_collected_from_a_copy(run: Path) -> None:
    from typer.testing import CliRunner

    from ledger.audit_commands import app

    (run / FILE).unlink()
    before = {p.name: p.read_bytes() for p in (run / "chain").iterdir()}
    result = CliRunner().invoke(app, ["verify", str(run), "--json", "--level", "chain"])
    assert result.exit_code == 0, result.output
    assert {p.name: p.read_bytes() for p in (run / "chain").iterdir()} == before
