"""The chain adapter: one federation's contract, read and written through any Ethereum node.

The same class works on the in-process chain of the unit tests, the managed anvil node and an
external network. Accounts sign here, never at the node; a revert becomes the `ContractError` of
the contract's own name, and a node that is down becomes `LedgerUnavailable`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from web3 import Web3

from contracts.artefact import load_artefact
from ledger.anchors import Anchors
from ledger.chain_errors import RevertDecoder
from ledger.chain_reads import LedgerReader
from ledger.chain_rpc import Patience, Transport
from ledger.chain_sends import TransactionSender
from ledger.chain_types import Receipt
from ledger.errors import InvalidStatement, LedgerError, WrongLedger
from ledger.statement import Ballot, Mechanism, Rules, pack_probes
from ledger.txlog import TransactionLog

NO_MECHANISM = Mechanism()


class Ledger(LedgerReader):
    """One federation's ledger. Reads are documented in `LedgerReader`.

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
        """Bind to a contract without asking the node anything; `attach` also checks it."""
        super().__init__(web3, anchors, confirmations, patience=patience, first_block=first_block)
        self._journal = journal
        self._sender = TransactionSender(
            self._transport,
            self._decoder,
            chain_id=anchors.chain_id,
            confirmations=confirmations,
            journal=journal,
        )

    # ---- where from ----

    @classmethod
    def deploy(
        cls,
        web3: Web3,
        account: LocalAccount,
        rules: Rules,
        founders: list[str] | tuple[str, ...],
        *,
        coordinator: str | None = None,
        confirmations: int = 0,
        journal: TransactionLog | None = None,
        patience: Patience | None = None,
    ) -> Ledger:
        """Deploy a new federation and return its ledger.

        Args:
            web3: the node.
            account: pays and signs; also the coordinator unless another is named.
            rules: fixed for ever.
            founders: the founding hospitals' addresses, in seat order.
            coordinator: EIP-55 address.
            confirmations: as for the ledger.
            journal: as for the ledger.
            patience: deadlines.

        Raises:
            ContractError: the contract refuses the rules or the founders.
        """
        artefact = load_artefact()
        transport = Transport(web3, patience or Patience())
        leader = coordinator or account.address
        factory = web3.eth.contract(abi=list(artefact.abi), bytecode=artefact.bytecode)
        data = factory.constructor(rules.abi(), leader, list(founders)).data_in_transaction
        chain_id = int(transport.read("for its chain id", lambda: web3.eth.chain_id))
        sender = TransactionSender(
            transport,
            RevertDecoder(artefact.abi),
            chain_id=chain_id,
            confirmations=confirmations,
            journal=journal,
        )
        receipt, found = sender.send(account, bytes.fromhex(str(data)[2:]), None)
        contract = found["contractAddress"]
        if contract is None:
            raise LedgerError("the node's receipt names no contract for the deployment")
        anchors = Anchors(
            chain_id=chain_id,
            contract=to_checksum_address(contract),
            federation_id=rules.federation_id,
            genesis_hash=_genesis_hash(transport),
            coordinator=leader,
            founders=tuple(founders),
        )
        return cls(
            web3,
            anchors,
            confirmations,
            journal=journal,
            patience=patience,
            first_block=receipt.block,
        )

    @classmethod
    def attach(
        cls,
        web3: Web3,
        anchors: Anchors,
        confirmations: int = 0,
        *,
        journal: TransactionLog | None = None,
        patience: Patience | None = None,
        first_block: int = 0,
    ) -> Ledger:
        """Return the ledger of a federation that is already deployed, after checking it.

        Raises:
            WrongLedger: chain id, genesis block, bytecode, federation, coordinator or founders
                are not those of the anchors.
            Unconfirmed: the deployment is not under enough confirmations.
            LedgerUnavailable: the node cannot be reached.
        """
        ledger = cls(
            web3,
            anchors,
            confirmations,
            journal=journal,
            patience=patience,
            first_block=first_block,
        )
        ledger.check_anchors()
        return ledger

    def check_anchors(self) -> None:
        """Compare the chain with the anchors (see `attach` for what it raises)."""
        read, anchors = self._transport.read, self.anchors
        chain_id = read("for its chain id", lambda: self.web3.eth.chain_id)
        _same("chain id", anchors.chain_id, chain_id)
        _same("genesis block", anchors.genesis_hash, _genesis_hash(self._transport))
        address, height = self._contract.address, self.height()
        code = read("for code", lambda: self.web3.eth.get_code(address, height))
        if not code:
            raise self._absent()
        if not load_artefact().matches(bytes(code)):
            raise WrongLedger(f"the code at {address} is not that of the reviewed contract")
        _same("federation", anchors.federation_id, self.rules().federation_id)
        deployed = next((e for e in self.events() if e.name == "Deployed"), None)
        if deployed is None:
            raise WrongLedger(f"the contract at {address} has no deployment on record")
        _same("first coordinator", anchors.coordinator, deployed.args["coordinator"])
        _same("founders", anchors.founders, deployed.args["founders"])

    def recover(self) -> int:
        """Send again what the journal holds and the chain does not know; return how many.

        Call it once after a crash, before the next send: the nonces then go on where they ended.

        Raises:
            JournalCorrupt: the chain holds something else than was journalled.
        """
        if self._journal is None:
            return 0
        journal = self._journal
        return self._transport.ask("the journal's transactions", lambda: journal.replay(self.web3))

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

    def attest(self, account: LocalAccount, round: int, beacon: bytes) -> Receipt:  # noqa: A002
        """Attest that the proposal of ``round`` checked out."""
        return self._send(account, "attest", round, beacon)

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


def _genesis_hash(transport: Transport) -> bytes:
    found = transport.read("for block 0", lambda: transport.web3.eth.get_block(0))
    return bytes(found["hash"])


def _same(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise WrongLedger(f"the {what} is {_shown(found)}, not {_shown(expected)} of the anchors")


def _shown(value: object) -> object:
    return f"0x{value.hex()}" if isinstance(value, bytes) else value
