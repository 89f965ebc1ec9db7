"""An honest run audits clean; each single tampering is caught where, and by the name, it should.

One federation plays once for the whole module; each case edits a copy of its run folder, or of its
record, and nothing else.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rlp
from eth_utils.crypto import keccak
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ledger.archive import FolderSource
from ledger.audit import AuditReport, audit
from ledger.audit_models import audit_models
from ledger.audit_record import open_record
from ledger.audit_replay import audit_replay
from ledger.canonical import canonical_json, parse_json
from ledger.chain_bytes import ordered_root
from ledger.facts import BlockRecord, ChainRecord, Facts, Finding
from ledger.findings import Book
from ledger.probe import probe_update
from ledger.replica import History, replay_events
from ledger.run_facts import held_keys, read_facts
from ledger.statement import Mechanism
from tests.ledger.audited_run import Federation, Party


@pytest.fixture(scope="module")
def facts(honest: Federation) -> Facts:
    return facts_of(honest.folder)


@pytest.fixture(scope="module")
def history(facts: Facts) -> History:
    found = history_of(facts)
    assert found is not None
    return found


@pytest.fixture
def run(honest: Federation, tmp_path: Path) -> Path:
    shutil.copytree(honest.folder, tmp_path / "run")
    return tmp_path / "run"


def facts_of(folder: Path, **changes: object) -> Facts:
    keys, erased = held_keys(folder)
    found = read_facts(FolderSource(folder), keys=keys, erased=erased)
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def history_of(facts: Facts) -> History | None:
    book = Book()
    opened = open_record(facts.record, facts.claimed, book)
    return replay_events(opened.events, facts.claimed.domain, book)


def upper_levels(facts: Facts, history: History) -> Book:
    """Check models and replay alone: the chain is the honest one."""
    assert facts.objects is not None
    book = Book(level="models")
    arithmetic = audit_models(history, facts.objects, book)
    book.level = "replay"
    audit_replay(facts, arithmetic, book)
    return book


def failures(found: Book | AuditReport) -> list[Finding]:
    return [item for item in found.findings if item.severity == "failure"]


def names(found: Book | AuditReport) -> set[str]:
    return {item.error for item in failures(found)}


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


# ---- an honest run ----


def test_an_honest_run_holds_at_every_level(honest: Federation, facts: Facts) -> None:
    report = audit(dataclasses.replace(facts, trusted=honest.ledger.anchors))
    assert report.findings == ()
    assert report.clean
    assert report.origin_proven
    assert report.reached == ("chain", "models", "replay")
    assert report.history is not None
    assert report.history.head == honest.ledger.head()
    assert report.history.model == honest.ledger.model()
    checks = report.passed
    assert checks["chain"]["events re-executed"] == len(
        {event.tx_hash for event in honest.ledger.events()}
    )
    assert checks["models"]["T = <r, S>"] == 2 * 16
    assert checks["replay"]["probes of its own update"] == 5


def test_credit_is_the_weight_of_attested_final_rounds(facts: Facts) -> None:
    report = audit(dataclasses.replace(facts, objects=None), "chain")
    assert [(item.rounds, item.weight) for item in report.credits] == [(2, 128), (1, 96), (2, 320)]
    assert sum(item.share for item in report.credits) == pytest.approx(1)


def test_without_outside_anchors_the_origin_is_unproven_and_it_says_so(facts: Facts) -> None:
    report = audit(dataclasses.replace(facts, objects=None), "chain")
    assert report.clean
    assert not report.origin_proven
    assert "origin unproven" in report.verdict
    assert [item.error for item in report.findings] == ["OriginUnproven"]


def test_without_a_key_the_replay_is_not_claimed(facts: Facts) -> None:
    report = audit(dataclasses.replace(facts, keys=()))
    assert report.clean
    assert report.reached == ("chain", "models")
    assert "level models" in report.verdict


def test_input_order_shuffled(facts: Facts) -> None:
    """input_order_shuffled: no error, same digest."""
    blocks = list(facts.record.blocks)
    random.Random(3).shuffle(blocks)
    shuffled = dataclasses.replace(facts.record, blocks=tuple(blocks))
    again = dataclasses.replace(
        facts, record=shuffled, journal=None, names=dict(sorted(facts.names.items(), reverse=True))
    )
    assert audit(again).digest() == audit(facts).digest()


def test_an_empty_audit_is_not_clean(facts: Facts) -> None:
    """A chain with nothing of the contract in it must not look green."""
    first = dataclasses.replace(facts.record, blocks=facts.record.blocks[:1], proof=None)
    report = audit(dataclasses.replace(facts, record=first))
    assert not report.clean
    assert "EventMismatch" in names(report)


def test_erased_key_is_a_note(run: Path, history: History) -> None:
    """evidence_erased: EvidenceErased, and nothing fails."""
    from ledger.keys import destroy_seal_key

    destroy_seal_key(run / "keys" / "seal-1.json", reason="retention of 30 days", time=0)
    book = upper_levels(facts_of(run), history)
    assert failures(book) == []
    assert {item.error for item in book.findings} == {"EvidenceErased"}
    assert "retention of 30 days" in book.findings[0].sentence


# ---- one byte of what is stored ----

Edit = Callable[[Path, History], None]


def _model(run: Path, history: History) -> None:
    flip(run / "models" / f"{history.model.hex()}.safetensors")


def _initial(run: Path, history: History) -> None:
    flip(run / "models" / f"{history.rules.initial_model.hex()}.safetensors")


def _sum(run: Path, history: History) -> None:
    proposal = history.rounds[0].proposal
    assert proposal is not None
    flip(run / "sums" / f"{proposal.sum_digest.hex()}.safetensors")


def _ciphertext(run: Path, history: History) -> None:
    flip(run / "evidence" / history.rounds[0].commits[1].seal_digest.hex(), 900)


def _config(run: Path, history: History) -> None:
    path = run / "configs" / f"{history.rounds[1].opening.config_digest.hex()}.json"
    path.write_bytes(path.read_bytes().replace(b'"rounds":2', b'"rounds":3'))


def _lost_model(run: Path, history: History) -> None:
    (run / "models" / f"{history.model.hex()}.safetensors").unlink()


def _lost_evidence(run: Path, history: History) -> None:
    (run / "evidence" / history.rounds[0].commits[2].seal_digest.hex()).unlink()


def _decision(run: Path, history: History) -> None:
    path = run / "evidence" / "decisions" / "2.json"
    path.write_bytes(path.read_bytes().replace(b'"code":27', b'"code":28'))


def _measurement(run: Path, history: History) -> None:
    path = run / "evidence" / "decisions" / "1.json"
    record = parse_json(path.read_bytes(), 1 << 20)
    assert isinstance(record, dict)
    record["decisions"][0]["measurement"] = {"norm_squared": 7}
    path.write_bytes(canonical_json(record))


@pytest.mark.parametrize(
    ("edit", "error", "named"),
    [
        (_model, "EvidenceMismatch", "models/"),
        (_initial, "EvidenceMismatch", "models/"),
        (_sum, "EvidenceMismatch", "sums/"),
        (_ciphertext, "EvidenceMismatch", "evidence/"),
        (_config, "EvidenceMismatch", "configs/"),
        (_lost_model, "EvidenceMissing", "models/"),
        (_lost_evidence, "EvidenceMissing", "evidence/"),
        (_decision, "EvidenceMismatch", "round 2"),
        (_measurement, "EvidenceMismatch", "norm recorded"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else None,
)
def test_an_edited_file_is_named(
    run: Path, history: History, edit: Edit, error: str, named: str
) -> None:
    edit(run, history)
    book = upper_levels(facts_of(run), history)
    assert any(item.error == error and named in item.sentence for item in failures(book))


# ---- a colluding federation: everything on the chain is consistent ----


def test_wrong_sum_that_everybody_attested(tmp_path: Path) -> None:
    """wrong_sum, one coordinate off by one: T = <r, S> fails for any auditor with the sum."""

    def one_more(federation: Federation) -> None:
        federation.total[3] += 1

    federation = Federation(tmp_path, {"before proposal": one_more})
    federation.play()
    federation.write_run()
    report = audit(facts_of(tmp_path))
    wrong = {(item.level, item.error) for item in failures(report)}
    assert wrong == {("models", "SumMismatch"), ("replay", "SumMismatch")}


def test_colluder_absorbs_difference(tmp_path: Path) -> None:
    """colluder_absorbs_difference: T holds, the contract is content; the replay names it."""
    extra = np.full(41, 5, np.int16)

    def absorb(federation: Federation) -> None:
        weight = federation.ledger.commits(1)[federation.parties[2].address].weight
        federation.total += weight * extra.astype(np.int64)

    def lie(federation: Federation) -> None:
        federation.probes[2] = probe_update(federation.beacon, federation.parties[2].q + extra)

    federation = Federation(tmp_path, {"before proposal": absorb, "before probes": lie})
    federation.play()
    federation.write_run()
    report = audit(facts_of(tmp_path))
    named = {(item.error, item.hospital) for item in failures(report)}
    assert named == {("ProbeMismatch", federation.parties[2].address), ("SumMismatch", "")}
    assert {item.level for item in failures(report)} == {"replay"}


def test_unjust_refusal_is_named(tmp_path: Path) -> None:
    """A coordinator that refuses an honest update against its own policy (censorship)."""

    def censor(federation: Federation) -> None:
        federation.refused, federation.accepted = {0: 27}, [1, 2]
        federation.total -= 64 * federation.parties[0].q.astype(np.int64)

    federation = Federation(tmp_path, {"before proposal": censor})
    federation.play()
    federation.write_run()
    found = failures(audit(facts_of(tmp_path)))
    assert [(item.error, item.hospital) for item in found] == [
        ("StandingMismatch", federation.parties[0].address)
    ]


def test_false_dissent_is_opened_to_the_auditor(tmp_path: Path) -> None:
    """false_dissent: the round is aborted, and the evidence names who dissented falsely."""

    def dissent(federation: Federation) -> None:
        federation.dissents = {1: 40}

    federation = Federation(tmp_path, {"before probes": dissent})
    federation.play()
    federation.write_run()
    report = audit(facts_of(tmp_path))
    assert report.clean
    assert [i.hospital for i in report.findings if i.check == "dissent borne out"] == [
        federation.parties[1].address
    ]


def test_true_dissent_is_borne_out(tmp_path: Path) -> None:
    """wrong_sum, and a hospital that says so: an aborted round, nobody named for dissenting."""

    def wrong(federation: Federation) -> None:
        federation.total[0] -= 1
        federation.dissents = {0: 40}

    federation = Federation(tmp_path, {"before proposal": wrong})
    federation.play()
    federation.write_run()
    report = audit(facts_of(tmp_path))
    assert report.clean  # the base model stands
    assert "SumMismatch" in {item.error for item in report.findings}
    assert not [item for item in report.findings if item.check == "dissent borne out"]
    for folder in ("sums", "evidence"):  # in an aborted round too, what is stored must be whole
        path = next(item for item in sorted((tmp_path / folder).iterdir()) if item.is_file())
        flip(path)
        assert "EvidenceMismatch" in names(audit(facts_of(tmp_path)))
        flip(path)


def test_a_reason_that_does_not_exist(tmp_path: Path) -> None:
    def invent(federation: Federation) -> None:
        federation.refused, federation.accepted = {0: 211}, [1, 2]
        federation.total -= 64 * federation.parties[0].q.astype(np.int64)

    federation = Federation(tmp_path, {"before proposal": invent})
    federation.play()
    federation.write_run()
    found = failures(audit(facts_of(tmp_path)))
    assert {item.error for item in found} == {"StandingMismatch"}


def _understate(federation: Federation) -> None:
    """Let the second hospital charge 0.002 less than its mechanism costs."""
    real = federation.mechanism

    def cheap(party: Party, steps: int = 20) -> Mechanism:
        found = real(party, steps)
        if party is federation.parties[1]:
            found = dataclasses.replace(found, epsilon=found.epsilon - 2000)
        return found

    federation.mechanism = cheap  # type: ignore[method-assign]


def _refuse_second(federation: Federation) -> None:
    federation.refused, federation.accepted = {1: 30}, [0, 2]
    federation.total -= 96 * federation.parties[1].q.astype(np.int64)


def test_epsilon_below_its_mechanism(tmp_path: Path) -> None:
    """A hospital that charges less than it spent: the contract cannot know, the audit does."""
    federation = Federation(tmp_path, {"before commits": _understate})
    federation.play()
    federation.write_run()
    found = failures(audit(facts_of(tmp_path)))
    assert [(item.error, item.hospital, item.check) for item in found] == [
        ("BudgetNotCharged", federation.parties[1].address, "epsilon recomputed")
    ]


def test_epsilon_below_its_mechanism_and_refused_for_it(tmp_path: Path) -> None:
    """weak_dp_claim caught by the server: the round did as it should, the record says who."""
    hooks = {"before commits": _understate, "before proposal": _refuse_second}
    federation = Federation(tmp_path, hooks)
    federation.play()
    federation.write_run()
    report = audit(facts_of(tmp_path))
    assert report.clean
    assert [i.hospital for i in report.findings if i.error == "BudgetNotCharged"] == [
        federation.parties[1].address
    ]


def test_refused_for_a_mechanism_that_meets_the_plan(tmp_path: Path) -> None:
    federation = Federation(tmp_path, {"before proposal": _refuse_second})
    federation.play()
    federation.write_run()
    found = failures(audit(facts_of(tmp_path)))
    assert [(item.error, item.check) for item in found] == [
        ("StandingMismatch", "mechanism refusal borne out")
    ]


def test_accepted_with_weaker_noise_than_planned(tmp_path: Path) -> None:
    """weak_dp_claim, and a coordinator that lets it pass."""

    def weaker(federation: Federation) -> None:
        real = federation.mechanism
        federation.mechanism = lambda party, steps=20: real(party, steps + 1)  # type: ignore[method-assign]

    federation = Federation(tmp_path, {"before commits": weaker})
    federation.play()
    federation.write_run()
    found = failures(audit(facts_of(tmp_path)))
    assert {(item.error, item.check) for item in found} == {
        ("PrivacyPolicyViolation", "mechanism meets the plan")
    }
    assert len(found) == 3


# ---- the chain itself ----


def rebuilt(record: ChainRecord, number: int, edit: Callable[[bytes], bytes]) -> ChainRecord:
    """Edit the receipts of one block and hash the whole chain again, as its operator could."""
    blocks, parent = [], b""
    for i, block in enumerate(record.blocks):
        header, receipts = rlp.decode(block.header), block.receipts
        if i == number:
            receipts = tuple(edit(receipt) for receipt in receipts)
            header[5] = ordered_root(receipts)
        if i > number:
            header[0] = parent
        encoded = rlp.encode(header)
        parent = keccak(encoded)
        blocks.append(
            BlockRecord(header=encoded, transactions=block.transactions, receipts=receipts)
        )
    return dataclasses.replace(record, blocks=tuple(blocks))


def test_event_disagrees_with_state(facts: Facts, history: History) -> None:
    """event_disagrees_with_state: an operator rewrites one event and every hash after it."""
    digest = history.rounds[0].commits[0].opening_digest

    def edit(receipt: bytes) -> bytes:
        return receipt.replace(digest, digest[::-1])

    number = next(
        i
        for i, block in enumerate(facts.record.blocks)
        if any(digest in receipt for receipt in block.receipts)
    )
    record = rebuilt(facts.record, number, edit)
    report = audit(dataclasses.replace(facts, record=record, objects=None), "chain")
    found = [item for item in failures(report) if item.check == "events re-executed"]
    assert [item.error for item in found] == ["EventMismatch"]
    assert f"block {number}" in found[0].sentence


def test_fabricated_chain(facts: Facts, tmp_path: Path, honest: Federation) -> None:
    """fabricated_chain: consistent in itself, but not of the anchors."""
    other = Federation(tmp_path)
    other.chain.travel(1000)  # type: ignore[union-attr]
    other.play()
    other.write_run()
    mine = facts_of(tmp_path, objects=None)
    assert audit(mine, "chain").clean
    anchors = dataclasses.replace(honest.ledger.anchors, genesis_hash=bytes(31) + b"\1")
    report = audit(dataclasses.replace(mine, trusted=anchors), "chain")
    assert names(report) == {"OriginUnproven"}
    assert not report.origin_proven
    assert "genesis block" in failures(report)[0].sentence


def test_proof_swapped(facts: Facts) -> None:
    """proof_swapped: BundleInvalid, whatever else agrees."""
    proof = facts.record.proof
    assert proof is not None
    for swapped in (
        dataclasses.replace(proof, nodes=proof.nodes[:-1]),
        dataclasses.replace(proof, storage_root=bytes(32)),
        dataclasses.replace(proof, nonce=proof.nonce + 1),
    ):
        record = dataclasses.replace(facts.record, proof=swapped)
        book = Book()
        open_record(record, facts.claimed, book)
        assert names(book) == {"BundleInvalid"}


def _cut_block(record: ChainRecord) -> ChainRecord:
    return dataclasses.replace(record, blocks=record.blocks[:5] + record.blocks[6:])


def _cut_transaction(record: ChainRecord) -> ChainRecord:
    blocks = list(record.blocks)
    blocks[4] = dataclasses.replace(blocks[4], transactions=(), receipts=())
    return dataclasses.replace(record, blocks=tuple(blocks))


def _swap_transactions(record: ChainRecord) -> ChainRecord:
    blocks = list(record.blocks)
    blocks[3], blocks[4] = (
        dataclasses.replace(blocks[3], transactions=blocks[4].transactions),
        dataclasses.replace(blocks[4], transactions=blocks[3].transactions),
    )
    return dataclasses.replace(record, blocks=tuple(blocks))


def _other_code(record: ChainRecord) -> ChainRecord:
    return dataclasses.replace(record, code=record.code[:-1] + b"\0")


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (_cut_block, "BundleInvalid"),
        (_cut_transaction, "BundleInvalid"),
        (_swap_transactions, "BundleInvalid"),
        (_other_code, "WrongLedger"),
    ],
)
def test_an_edited_record_is_no_chain(
    facts: Facts, edit: Callable[[ChainRecord], ChainRecord], error: str
) -> None:
    book = Book()
    open_record(edit(facts.record), facts.claimed, book)
    assert error in names(book)


def test_another_claimed_contract(facts: Facts) -> None:
    claimed = dataclasses.replace(facts.claimed, contract=facts.claimed.coordinator)
    report = audit(dataclasses.replace(facts, claimed=claimed))
    assert not report.clean
    assert "WrongLedger" in names(report)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_garbled_record_is_a_finding_and_never_an_exception(
    facts: Facts, data: st.DataObject
) -> None:
    blocks = list(facts.record.blocks)
    at = data.draw(st.integers(1, len(blocks) - 1))
    part = data.draw(st.sampled_from(["header", "transactions", "receipts"]))
    value = getattr(blocks[at], part)
    raw = value if isinstance(value, bytes) else b"".join(value)
    begin = data.draw(st.integers(0, len(raw)))
    junk = data.draw(st.binary(min_size=1, max_size=40))
    garbled = raw[:begin] + junk + raw[begin + data.draw(st.integers(0, 40)) :]
    assume(garbled != raw)
    new: Any = garbled if part == "header" else (garbled,)
    blocks[at] = dataclasses.replace(blocks[at], **{part: new})
    record = dataclasses.replace(facts.record, blocks=tuple(blocks))
    assert not audit(dataclasses.replace(facts, record=record)).clean
