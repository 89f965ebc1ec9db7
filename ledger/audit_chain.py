"""The chain level: what anybody can check with the chain alone.

Ordering rules (a step relies only on those before it):

1. The record is a chain: hashes, roots, signatures, the reviewed bytecode (`audit_record`).
2. It is the chain of the anchors that the run claims, and of those given from outside, if any.
   Without anchors from outside, everything below shows only that the history is consistent.
3. Its events, followed by an independent state machine, break no rule (`replica`): membership,
   budgets, weights, lineage, windows, beacon, totals, norm caps, answers, outcomes, head.
4. Its transactions, executed again in an in-process EVM from an empty state, give the same
   receipts, storage, code and head (`reexecute`). Events that disagree with state show here.
5. The storage that was served, the account's proven storage root and the node's own state file
   are that storage, byte for byte; the node's journal holds the same transactions.
6. Every epsilon follows from the mechanisms that were committed (`audit_privacy`).
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_utils.crypto import keccak

from ledger.anchors import Anchors
from ledger.audit_privacy import Charges, check_budgets
from ledger.audit_record import Mined, OpenedChain, open_record
from ledger.chain_bytes import storage_root
from ledger.errors import (
    BundleInvalid,
    EventMismatch,
    JournalCorrupt,
    LedgerRollback,
    OriginUnproven,
    WrongLedger,
)
from ledger.facts import Facts, Journalled, StateDump
from ledger.findings import Book
from ledger.history import History as Transactions
from ledger.history import Step
from ledger.reexecute import Reexecution, reexecute
from ledger.replica import History, replay_events
from ledger.transactions import Log as EffectLog
from ledger.transactions import Mined as Effects


@dataclass(frozen=True, kw_only=True)
class ChainLevel:
    """What the chain level established; ``history`` is None where it cannot be followed at all."""

    chain: OpenedChain
    history: History | None
    charges: Charges


def audit_chain(facts: Facts, book: Book) -> ChainLevel:
    """Check the chain level in the order of the module's docstring.

    Raises:
        BundleInvalid: the record cannot be parsed at all.
    """
    chain = open_record(facts.record, facts.claimed, book)
    history = replay_events(chain.events, facts.claimed.domain, book)
    _check_anchors(facts, chain, history, book)
    _check_execution(facts, chain, history, book)
    if facts.journal is not None:
        _check_journal(facts.journal, chain, facts.claimed.contract, book)
    charges = Charges() if history is None else check_budgets(history, facts.objects, book)
    return ChainLevel(chain=chain, history=history, charges=charges)


# ---- 2: whose chain ----


def _check_anchors(facts: Facts, chain: OpenedChain, history: History | None, book: Book) -> None:
    found: dict[str, object] = {"genesis block": chain.headers[0].hash}
    if history is not None:
        found |= {
            "federation": history.rules.federation_id,
            "coordinator": history.founding_coordinator,
            "founders": history.founders,
        }
    for what, value in _parts(facts.claimed).items():
        if what in found:
            sentence = f"the run claims another {what} than its chain holds"
            book.equal(value, found[what], "claimed anchors", sentence, error=WrongLedger)
    if facts.trusted is None:
        book.note(
            "origin",
            "no trust anchors were given from outside the run: its history is consistent, but"
            " nothing here shows that it is the federation's own",
            error=OriginUnproven,
            severity="unproven",
        )
        return
    claimed = _parts(facts.claimed)
    for what, value in _parts(facts.trusted).items():
        sentence = f"the {what} is not the one of the trust anchors: this is another history"
        shown = found.get(what, claimed[what])
        book.equal(value, shown, "trusted anchors", sentence, error=OriginUnproven)


def _parts(anchors: Anchors) -> dict[str, object]:
    return {
        "chain id": anchors.chain_id,
        "contract": anchors.contract,
        "federation": anchors.federation_id,
        "genesis block": anchors.genesis_hash,
        "coordinator": anchors.coordinator,
        "founders": anchors.founders,
    }


# ---- 4 and 5: events = state ----


def _check_execution(facts: Facts, chain: OpenedChain, history: History | None, book: Book) -> None:
    contract, proof = facts.claimed.contract, facts.record.proof
    if history is None or chain.deployment is None:
        return  # named above: there is nothing to execute
    first = chain.mined.index(chain.deployment)
    ours = [chain.mined[first]]
    ours += [item for item in chain.mined[first + 1 :] if item.transaction.to == contract]
    told = Transactions(
        chain_id=facts.claimed.chain_id,
        contract=contract,
        head=history.head,
        sequence=history.sequence,
        storage_root=_proven_root(proof.storage_root, facts.dump) if proof else None,
        code=facts.record.code,
        steps=tuple(_step(item) for item in ours),
    )
    try:
        again = reexecute(told)
    except BundleInvalid as error:
        sentence = f"the signed transactions cannot be executed again: {error}"
        book.check(False, "re-execution", sentence, error=EventMismatch)
        return
    _check_differences(ours, again, book)
    if facts.dump is not None:
        _check_dump(facts.dump, chain, again, book)


def _proven_root(root: bytes, dump: StateDump | None) -> bytes:
    """Return the proven storage root as the Yellow Paper would have it.

    Anvil keeps slots that hold zero in its trie. Where its state file shows which those are, and
    with them gives exactly the proven root, the root without them says the same of the contract.
    """
    if dump is not None and storage_root(dump.storage, keep_zeros=True) == root:
        return storage_root(dump.storage)
    return root


def _step(item: Mined) -> Step:
    return Step(
        raw=item.raw,
        mined=Effects(
            tx_hash=item.transaction.hash,
            block=item.block,
            timestamp=item.time,
            status=int(item.succeeded),
            gas_used=item.gas_used,
            logs=tuple(
                EffectLog(address=log.address, topics=log.topics, data=log.data)
                for log in item.logs
            ),
        ),
    )


def _check_differences(ours: list[Mined], again: Reexecution, book: Book) -> None:
    wrong = {item.transaction for item in again.differences}
    for number in range(len(ours)):
        if number not in wrong:
            book.check(True, "events re-executed", "", error=EventMismatch)
    if None not in wrong:
        book.check(True, "head, code and storage re-executed", "", error=EventMismatch)
    for item in again.differences:
        if item.transaction is None:
            where = "the final state"
        else:
            mined = ours[item.transaction]
            where = f"the transaction of {mined.transaction.sender} in block {mined.block}"
        book.check(
            False,
            "events re-executed",
            f"{where}: {item.what} is another one when the signed transactions run again",
            expected=item.found,
            found=item.expected,
            error=EventMismatch,
        )


def _check_dump(dump: StateDump, chain: OpenedChain, again: Reexecution, book: Book) -> None:
    where = "in the node's state file"
    found = {keccak(header) for header in dump.headers}
    if dump.recorded is None and chain.headers[-1].hash not in found:
        book.note(
            "state file",
            "the node was killed before it wrote its last blocks to its state file, which is"
            " therefore not compared; the bundle's own state was",
            error=EventMismatch,
        )
        return
    book.equal(
        keccak(again.code),
        keccak(dump.code),
        "state file code",
        f"the contract's code {where} is not what its deployment gives",
        error=EventMismatch,
    )
    stored = {keccak(s.to_bytes(32, "big")): (f"0x{s:x}", v) for s, v in dump.storage.items() if v}
    for key in sorted(set(again.storage) | set(stored)):
        slot, value = stored.get(key, (f"with the hash 0x{key.hex()}", 0))
        book.equal(
            f"0x{again.storage.get(key, 0):064x}",
            f"0x{value:064x}",
            "state file storage",
            f"storage slot {slot} of the contract {where} is not what the signed transactions give",
            error=EventMismatch,
        )
    for header in chain.headers:
        book.check(
            header.hash in found,
            "state file blocks",
            f"block {header.number} of the bundle is not {where}",
            expected=header.hash,
            error=EventMismatch,
        )
    if dump.recorded is not None:
        book.equal(
            dump.recorded,
            dump.digest,
            "state file digest",
            "the node's state file was changed after the node stopped",
            error=EventMismatch,
        )


def _check_journal(
    journal: tuple[Journalled, ...], chain: OpenedChain, contract: str, book: Book
) -> None:
    mined = {item.raw: item for item in chain.mined}
    journalled = {entry.raw: entry for entry in journal}
    for raw, entry in sorted(journalled.items()):
        item, name = mined.get(raw), f"the journalled transaction 0x{keccak(raw).hex()}"
        if entry.timestamp is None:
            continue  # signed, and never mined: nobody acted on it
        if not book.check(
            item is not None,
            "journal on the chain",
            f"{name} was mined when it was journalled, and is not on the chain now",
            error=LedgerRollback,
        ):
            continue
        assert item is not None  # noqa: S101 - narrows the type
        book.equal(
            (item.time, item.succeeded, item.gas_used),
            (entry.timestamp, entry.succeeded, entry.gas_used),
            "journalled effects",
            f"{name} had other effects than the chain now shows",
            error=JournalCorrupt,
        )
        if entry.logs is not None:
            book.check(
                tuple((log.address, log.topics, log.data) for log in item.logs)
                == tuple(log for log in entry.logs if log[0] == contract),
                "journalled events",
                f"{name} has other events in the journal than on the chain",
                error=JournalCorrupt,
            )
    for raw, item in mined.items():
        book.check(
            raw in journalled,
            "chain in the journal",
            f"a transaction of {item.transaction.sender} in block {item.block} never passed"
            " through the node's journal",
            error=BundleInvalid,
        )
