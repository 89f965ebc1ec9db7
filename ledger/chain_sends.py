"""Sending one transaction: look first, sign here, note it down, broadcast, wait until it counts.

A call that would revert is found by asking the node before anything is signed, so a refused
statement costs neither a nonce nor gas. A transaction is journalled with its signature before it
leaves, so that a crash or a lost receipt can be repaired by sending the same bytes again: the
same nonce can only ever be spent once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eth_account.datastructures import SignedTransaction
from eth_account.signers.local import LocalAccount
from web3.exceptions import TransactionNotFound
from web3.types import TxReceipt

from ledger.chain_errors import RevertDecoder, revert_data
from ledger.chain_rpc import TRANSPORT_ERRORS, Transport
from ledger.chain_types import Receipt
from ledger.errors import ContractError, LedgerError, TransactionStuck, Unconfirmed
from ledger.steps import step
from ledger.transactions import Mined

if TYPE_CHECKING:
    from ledger.txlog import TransactionLog

FREE_GAS = 12_000_000
"""Gas limit where gas is free: above a proposal of 64 hospitals, below EIP-7825's 2^24."""


_RISE = 4
"""A replacement offers a quarter more: pools ask for at least a tenth."""


def _dearer(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a transaction's fields at a price that replaces it; the same where gas is free."""
    prices = ("gasPrice", "maxFeePerGas", "maxPriorityFeePerGas")
    if not any(fields.get(name) for name in prices):
        return fields
    return {
        name: value + value // _RISE + 1 if name in prices else value
        for name, value in fields.items()
    }


class TransactionSender:
    """Sends the transactions of any account to one chain."""

    def __init__(
        self,
        transport: Transport,
        decoder: RevertDecoder,
        *,
        chain_id: int,
        confirmations: int = 0,
        journal: TransactionLog | None = None,
    ) -> None:
        self._transport = transport
        self._decoder = decoder
        self._chain_id = chain_id
        self._confirmations = confirmations
        self._journal = journal

    @property
    def _eth(self) -> Any:
        return self._transport.web3.eth

    def send(self, account: LocalAccount, data: bytes, to: str | None) -> tuple[Receipt, TxReceipt]:
        """Send ``data`` to the contract (or deploy it, with ``to`` None) and wait.

        Returns:
            The receipt, ours and as the node gave it.

        Raises:
            ContractError: it reverts (the subclass of Solidity's error, with its arguments).
            TransactionStuck: it was not mined in time; it is journalled and may still be.
            Unconfirmed: it was mined, but not confirmed in time.
            LedgerUnavailable: the node cannot be reached.
        """
        call: dict[str, Any] = {"from": account.address, "data": "0x" + data.hex(), "value": 0}
        if to is not None:
            call["to"] = to
        fields = self._price(call)
        tried = {key: value for key, value in fields.items() if key != "type"}
        nonce = self._transport.read(
            "for a nonce", lambda: self._eth.get_transaction_count(account.address, "pending")
        )
        fields.update(nonce=nonce, chainId=self._chain_id)
        fields.pop("from")
        signed = account.sign_transaction(fields)
        what = f"{account.address}/{data[:4].hex()}"
        self._offer(signed, what)
        found = self._mined(account, fields, signed, what)
        tx_hash = bytes(found["transactionHash"])
        if self._journal is not None:
            self._note(found)
        if found["status"] != 1:
            raise self._reason(tried, found["blockNumber"])
        self._confirm(tx_hash, found["blockNumber"])
        receipt = Receipt(tx_hash=tx_hash, block=found["blockNumber"], gas_used=found["gasUsed"])
        return receipt, found

    def _price(self, call: dict[str, Any]) -> dict[str, Any]:
        """Return ``call`` with gas and fees, having made sure that it does not revert.

        A base fee of zero means a chain without gas money (the managed node, a private Besu):
        the sender needs no balance, and the fees are zero.
        """
        latest = self._transport.read("for a block", lambda: self._eth.get_block("latest"))
        base_fee = latest.get("baseFeePerGas")
        if base_fee == 0:
            fields = {
                **call,
                "gas": min(FREE_GAS, latest["gasLimit"]),
                "maxFeePerGas": 0,
                "maxPriorityFeePerGas": 0,
            }
            # "pending": the time of the block to come, not of one mined long ago.
            self._try(lambda: self._eth.call(fields, "pending"))
            return {**fields, "type": 2}
        gas = self._try(lambda: self._eth.estimate_gas(call))
        fields = {**call, "gas": gas + gas // 5}
        if base_fee is None:  # a chain from before EIP-1559
            price = self._transport.read("for a gas price", lambda: self._eth.gas_price)
            return {**fields, "gasPrice": price}
        tip = self._transport.read("for a tip", lambda: self._eth.max_priority_fee)
        return {
            **fields,
            "maxFeePerGas": 2 * base_fee + tip,
            "maxPriorityFeePerGas": tip,
            "type": 2,
        }

    def _try(self, question: Callable[[], Any]) -> Any:
        try:
            return self._transport.ask("whether a call would revert", question)
        except TRANSPORT_ERRORS:
            raise
        except LedgerError:
            raise
        except Exception as error:
            data = revert_data(error)
            if data is None:
                raise LedgerError(f"the node cannot try the transaction: {error}") from error
            raise self._decoder.decode(data) from None

    def _broadcast(self, raw: bytes, tx_hash: bytes) -> None:
        def attempt() -> None:
            try:
                self._eth.send_raw_transaction(raw)
            except TRANSPORT_ERRORS:
                raise
            except Exception as error:
                # After a lost answer the second attempt is "already known": that is success.
                if not self._known(tx_hash):
                    raise LedgerError(f"the node refused the transaction: {error}") from error

        self._transport.ask("a transaction", attempt)

    def _known(self, tx_hash: bytes) -> bool:
        try:
            self._eth.get_transaction(tx_hash)
        except TransactionNotFound:
            return False
        return True

    def _receipt(self, tx_hash: bytes) -> TxReceipt | None:
        try:
            found: TxReceipt = self._transport.read(
                "for a receipt", lambda: self._eth.get_transaction_receipt(tx_hash)
            )
        except TransactionNotFound:
            return None
        return found

    def _offer(self, signed: SignedTransaction, what: str) -> None:
        """Note a signed transaction down, then hand it to the node."""
        raw = bytes(signed.raw_transaction)
        if self._journal is not None:
            self._journal.signed(raw)
        with step("broadcast", what):
            self._broadcast(raw, bytes(signed.hash))

    def _mined(
        self, account: LocalAccount, fields: dict[str, Any], signed: SignedTransaction, what: str
    ) -> TxReceipt:
        """Wait for a transaction, offering it again: a pool may have dropped it, or want more.

        Every offer has the same nonce, so that at most one of them can ever be mined.
        """
        patience = self._transport.patience
        offers = [signed]
        for left in range(patience.offers, -1, -1):
            found = self._wait(offers, patience.mining / (patience.offers + 1))
            if found is not None:
                return found
            if left:
                fields = _dearer(fields)
                offers.append(account.sign_transaction(fields))
                try:
                    self._offer(offers[-1], what)
                except LedgerError:  # refused: an earlier offer may have been mined just now
                    if (found := self._wait(offers, 0.0)) is not None:
                        return found
        raise TransactionStuck(
            f"the transaction 0x{bytes(signed.hash).hex()} was not mined within"
            f" {patience.mining:g} s, though offered {len(offers)} times; it is journalled"
        )

    def _wait(self, offers: list[SignedTransaction], seconds: float) -> TxReceipt | None:
        deadline = time.monotonic() + seconds
        while True:
            for signed in dict.fromkeys(bytes(offer.hash) for offer in offers):
                found = self._receipt(signed)
                if found is not None:
                    return found
            if time.monotonic() > deadline:
                return None
            time.sleep(self._transport.patience.poll)

    def _note(self, found: TxReceipt) -> None:
        block = self._transport.read(
            "for a block", lambda: self._eth.get_block(found["blockNumber"])
        )
        if self._journal is not None:
            self._journal.mined(Mined.of_receipt(found, block["timestamp"]))

    def _reason(self, call: dict[str, Any], block: int) -> ContractError:
        """Find out why a mined transaction reverted, by asking again at its block."""
        try:
            self._transport.ask("why it reverted", lambda: self._eth.call(call, block))
        except TRANSPORT_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 - every node has its own kind
            data = revert_data(error)
            if data is not None:
                return self._decoder.decode(data)
        return ContractError(f"the transaction was mined in block {block} and reverted")

    def _confirm(self, tx_hash: bytes, block: int) -> None:
        if not self._confirmations:
            return
        patience = self._transport.patience
        deadline = time.monotonic() + patience.mining
        while True:
            height = self._transport.read("for the height", lambda: self._eth.block_number)
            if height - block >= self._confirmations:
                found = self._receipt(tx_hash)
                if found is not None:
                    block = found["blockNumber"]  # a reorganisation may have moved it
                    if height - block >= self._confirmations:
                        return
            if time.monotonic() > deadline:
                raise Unconfirmed(
                    f"the transaction 0x{tx_hash.hex()} has {height - block} of "
                    f"{self._confirmations} confirmations after {patience.mining:g} s"
                )
            time.sleep(patience.poll)
