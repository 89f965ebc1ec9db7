"""Is this a chain at all? Headers, transactions, receipts and the contract's account, by hash.

Ordering rules (each step relies only on what was checked before it):

1. Blocks are sorted by number (the order of the input says nothing), contiguous from 0, and each
   names its parent's hash.
2. A block's transactions and receipts are those of the roots in its header.
3. Every transaction recovers its sender, is bound to the anchors' chain and sent once.
4. The deployment creates the anchors' contract from the reviewed artefact, and nobody else's logs
   are read.
5. The contract's code and account are those of the last block's state root.

A fault in 1, 2 or 5 is `BundleInvalid`: the bundle is not a record of any chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from eth_utils.crypto import keccak

from contracts.artefact import load_artefact
from ledger.anchors import Anchors
from ledger.chain_bytes import (
    Header,
    Log,
    Transaction,
    account_proven,
    created_address,
    ordered_root,
    parse_header,
    parse_receipt,
    parse_transaction,
)
from ledger.errors import BundleInvalid, EventMismatch, WrongLedger
from ledger.event_decoder import EventDecoder
from ledger.facts import BlockRecord, ChainRecord, Event
from ledger.findings import Book


@dataclass(frozen=True, kw_only=True)
class Mined:
    """One transaction in its block; ``logs`` are those of the audited contract only."""

    transaction: Transaction
    raw: bytes
    block: int
    time: int
    succeeded: bool
    gas_used: int
    logs: tuple[Log, ...]


@dataclass(frozen=True, kw_only=True)
class OpenedChain:
    """A record whose hashes hold together: what the rest of the audit reads."""

    headers: tuple[Header, ...]
    mined: tuple[Mined, ...]
    events: tuple[Event, ...]
    deployment: Mined | None


def open_record(record: ChainRecord, anchors: Anchors, book: Book) -> OpenedChain:
    """Check a chain record against itself and return what it holds.

    Raises:
        BundleInvalid: a block cannot even be parsed.
    """
    blocks = sorted(
        ((parse_header(block.header), block) for block in record.blocks),
        key=lambda pair: pair[0].number,
    )
    headers = tuple(header for header, _ in blocks)
    _check_links(headers, book)
    mined = tuple(item for header, block in blocks for item in _block(header, block, anchors, book))
    _check_once(mined, book)
    deployment = _deployment(mined, anchors, book)
    _check_account(record, headers, anchors, book)
    return OpenedChain(
        headers=headers, mined=mined, events=_events(mined, book), deployment=deployment
    )


def _check_links(headers: tuple[Header, ...], book: Book) -> None:
    if not headers or headers[0].number != 0:
        raise BundleInvalid("the record does not begin with block 0")
    for before, header in pairwise(headers):
        book.equal(
            (before.number + 1, before.hash),
            (header.number, header.parent),
            "block links",
            f"block {header.number} does not follow from block {before.number}",
            error=BundleInvalid,
        )
        book.check(
            header.time >= before.time,
            "block times",
            f"block {header.number} is older than the one before it",
            error=BundleInvalid,
        )


def _block(header: Header, block: BlockRecord, anchors: Anchors, book: Book) -> Iterator[Mined]:
    number = header.number
    for what, values, root in (
        ("transactions", block.transactions, header.transactions_root),
        ("receipts", block.receipts, header.receipts_root),
    ):
        found = ordered_root(values)
        sentence = f"the {what} of block {number} are not those of its header"
        book.equal(root, found, f"{what} root", sentence, error=BundleInvalid)
    if len(block.transactions) != len(block.receipts):
        raise BundleInvalid(f"block {number} has another number of receipts than transactions")
    gas = 0
    for raw, receipt in zip(block.transactions, block.receipts, strict=True):
        transaction = parse_transaction(raw)
        succeeded, total, logs = parse_receipt(receipt)
        book.equal(
            anchors.chain_id,
            transaction.chain_id,
            "signature and chain id",
            f"a transaction of {transaction.sender} in block {number} is signed for another chain",
            error=WrongLedger,
        )
        yield Mined(
            transaction=transaction,
            raw=raw,
            block=number,
            time=header.time,
            succeeded=succeeded,
            gas_used=total - gas,
            logs=tuple(log for log in logs if log.address == anchors.contract),
        )
        gas = total


def _check_once(mined: tuple[Mined, ...], book: Book) -> None:
    last: dict[str, int] = {}
    for item in mined:
        sender, nonce = item.transaction.sender, item.transaction.nonce
        book.equal(
            last.get(sender, -1) + 1,
            nonce,
            "nonces",
            f"the transactions of {sender} skip or repeat a number in block {item.block}",
            error=BundleInvalid,
        )
        last[sender] = nonce


def _deployment(mined: tuple[Mined, ...], anchors: Anchors, book: Book) -> Mined | None:
    code = load_artefact().bytecode
    for item in mined:
        sent = item.transaction
        created = created_address(sent.sender, sent.nonce) if sent.to is None else None
        if created == anchors.contract and item.succeeded:
            book.check(
                sent.data.startswith(code) and sent.value == 0,
                "bytecode is the reviewed artefact",
                "the contract was not deployed from the reviewed artefact",
                expected=keccak(code),
                found=keccak(sent.data[: len(code)]),
                error=WrongLedger,
            )
            return item
    book.check(
        False,
        "deployment",
        f"no transaction of this chain creates {anchors.contract}",
        error=WrongLedger,
    )
    return None


def _check_account(
    record: ChainRecord, headers: tuple[Header, ...], anchors: Anchors, book: Book
) -> None:
    book.check(
        load_artefact().matches(record.code),
        "bytecode is the reviewed artefact",
        "the code at the contract's address is not the reviewed artefact's",
        found=keccak(record.code),
        error=WrongLedger,
    )
    proof = record.proof
    if proof is None:
        book.note(
            "account proof",
            "the node offered no proof of the contract's account (EIP-1186); its state is checked"
            " by re-execution alone",
            error=BundleInvalid,
        )
        return
    book.check(
        account_proven(headers[-1].state_root, anchors.contract, proof),
        "account proof",
        f"the account proof does not lead to the state root of block {headers[-1].number}",
        expected=headers[-1].state_root,
        found=keccak(proof.nodes[0]) if proof.nodes else "no node",
        error=BundleInvalid,
    )
    book.equal(
        proof.code_hash,
        keccak(record.code),
        "account code",
        "the code in the bundle is not the one under the last state root",
        error=BundleInvalid,
    )


def _events(mined: tuple[Mined, ...], book: Book) -> tuple[Event, ...]:
    decoder = EventDecoder(load_artefact().abi)
    events: list[Event] = []
    for item in mined:
        for log in item.logs:
            try:
                name, args = decoder.decode(log)
            except EventMismatch as error:
                sentence = f"block {item.block}: {error}"
                book.check(False, "events decode", sentence, error=EventMismatch)
                continue
            events.append(
                Event(
                    name=name,
                    args=args,
                    block=item.block,
                    index=len(events),
                    transaction=item.transaction.hash,
                    sender=item.transaction.sender,
                    time=item.time,
                )
            )
    return tuple(events)
