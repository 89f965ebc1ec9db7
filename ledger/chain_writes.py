"""Writing the ledger: each of the contract's functions, signed by a local account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from eth_account.signers.local import LocalAccount
from web3 import Web3

from ledger.anchors import Anchors
from ledger.chain_reads import LedgerReader
from ledger.chain_rpc import Patience
from ledger.chain_sends import TransactionSender
from ledger.chain_types import Receipt
from ledger.errors import InvalidStatement
from ledger.statement import Ballot, Mechanism, pack_probes
from ledger.txlog import TransactionLog

NO_MECHANISM = Mechanism()


class LedgerWriter(LedgerReader):
    """The writing half of `ledger.chain.Ledger`: one method a function of the contract.

    Every send returns once the transaction is mined (and confirmed, and journalled where a journal
    is given) and raises:

    - the `ContractError` of the contract's own name, with Solidity's arguments;
    - `TransactionStuck`, `Unconfirmed` or `LedgerUnavailable`.
    """

    def __init__(
        self,
        web3: Web3,
        anchors: Anchors,
        confirmations: int = 0,
        *,
        journal: TransactionLog | None = None,
        patience: Patience | None = None,
        first_block: int = 0,
    ) -> None:
        """Bind to a contract without asking the node anything; `Ledger.attach` also checks it."""
        super().__init__(web3, anchors, confirmations, patience=patience, first_block=first_block)
        self._journal = journal
        self._sender = TransactionSender(
            self._transport,
            self._decoder,
            chain_id=anchors.chain_id,
            confirmations=confirmations,
            journal=journal,
        )

    def close(self) -> None:
        """Close the journal of signed transactions, if there is one; reads still work."""
        if self._journal is not None:
            self._journal.close()

    # ---- membership and budget ----

    def register(
        self, account: LocalAccount, cap: int, opening_epsilon: int, weight: int
    ) -> Receipt:
        """Take the enrolled seat: cap and opening epsilon in micro-units, bucketed weight."""
        return self._send(account, "register", cap, opening_epsilon, weight)

    def lower_cap(self, account: LocalAccount, cap: int) -> Receipt:
        """Lower the account's privacy cap, in micro-epsilon."""
        return self._send(account, "lowerCap", cap)

    def set_weight(self, account: LocalAccount, weight: int) -> Receipt:
        """Change the account's registered weight, between rounds."""
        return self._send(account, "setWeight", weight)

    def vote(self, account: LocalAccount, kind: Ballot, subject: str) -> Receipt:
        """Vote for one ballot on ``subject``."""
        return self._send(account, "vote", int(kind), subject)

    def enact(self, account: LocalAccount, kind: Ballot, subject: str) -> Receipt:
        """Carry out a ballot that has its votes."""
        return self._send(account, "enact", int(kind), subject)

    # ---- one round ----

    def open_round(
        self,
        account: LocalAccount,
        *,
        base_model: bytes,
        config_digest: bytes,
        key_digest: bytes,
        norm_bound: int,
        commit_window: int,
        attest_window: int,
        expected_head: bytes | None = None,
    ) -> Receipt:
        """Open a round on the present head (or on ``expected_head``); windows in seconds."""
        return self._send(
            account,
            "openRound",
            self.head() if expected_head is None else expected_head,
            base_model,
            config_digest,
            key_digest,
            norm_bound,
            commit_window,
            attest_window,
        )

    def close_commits(self, account: LocalAccount, round: int) -> Receipt:  # noqa: A002
        """End the commit window of ``round`` before its deadline."""
        return self._send(account, "closeCommits", round)

    def commit(
        self,
        account: LocalAccount,
        *,
        open_head: bytes,
        seal_digest: bytes,
        opening_digest: bytes,
        mechanism: Mechanism = NO_MECHANISM,
    ) -> Receipt:
        """Commit to one sealed update, and charge its mechanism's cumulative epsilon."""
        return self._send(
            account, "commit", open_head, seal_digest, opening_digest, mechanism.abi()
        )

    def propose(
        self,
        account: LocalAccount,
        *,
        round: int,  # noqa: A002 - the protocol's word
        sum_digest: bytes,
        model_digest: bytes,
        accepted: int,
        refused: int,
        reasons: Mapping[int, int],
        probes: Mapping[int, tuple[int, ...]],
    ) -> Receipt:
        """Propose the round's one weighted sum.

        Args:
            account: the coordinator.
            round: its number.
            sum_digest: SHA-256 of the encoded sum.
            model_digest: SHA-256 of the new model's file.
            accepted: bitmap by seat.
            refused: bitmap by seat.
            reasons: error code (1 to 255) of every refused seat.
            probes: 16 integers of every accepted seat.

        Raises:
            InvalidStatement: a probe or a code does not fit its packed form.
        """
        try:
            packed = pack_probes([probes[seat] for seat in sorted(probes)])
            codes = bytes(reasons[seat] for seat in sorted(reasons))
        except (OverflowError, ValueError) as error:
            raise InvalidStatement(f"the proposal cannot be packed: {error}") from None
        return self._send(
            account,
            "propose",
            round,
            sum_digest,
            model_digest,
            accepted,
            refused,
            codes,
            packed,
        )

    def attest(
        self,
        account: LocalAccount,
        round: int,  # noqa: A002 - the protocol's word
        proposed_head: bytes,
    ) -> Receipt:
        """Attest that the proposal of ``round`` checked out.

        Args:
            account: the hospital's.
            round: the round.
            proposed_head: the head right after the proposal. A hospital computes it from the
                events it checked (`ledger.shown`); to name one that a node merely states would
                vouch for what was never seen.

        Raises:
            HeadMismatch: the contract's proposal, or history, is another one.
        """
        return self._send(account, "attest", round, proposed_head)

    def dissent(self, account: LocalAccount, round: int, code: int) -> Receipt:  # noqa: A002
        """Dissent from the proposal of ``round``, with the error's code."""
        return self._send(account, "dissent", round, code)

    def contest(self, account: LocalAccount, round: int, code: int) -> Receipt:  # noqa: A002
        """Contest one's own refusal in ``round``, with the error's code."""
        return self._send(account, "contest", round, code)

    def finalise(self, account: LocalAccount, round: int) -> Receipt:  # noqa: A002
        """Make the proposed model of ``round`` final; anyone may."""
        return self._send(account, "finalise", round)

    def abort(self, account: LocalAccount, round: int) -> Receipt:  # noqa: A002
        """Give ``round`` up; the base model stands."""
        return self._send(account, "abort", round)

    def _send(self, account: LocalAccount, name: str, *args: Any) -> Receipt:
        try:
            data = self._contract.encode_abi(name, args=list(args))
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidStatement(f"{name} cannot be encoded: {error}") from None
        receipt, _ = self._sender.send(
            account, bytes.fromhex(str(data)[2:]), cast(str, self._contract.address)
        )
        return receipt
