"""Reading the ledger: state by calls, rounds by events, all at one confirmed height."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from web3 import Web3
from web3.exceptions import BadFunctionCallOutput, BlockNotFound, Web3RPCError

from contracts.artefact import load_artefact
from ledger.anchors import Anchors
from ledger.chain_errors import RevertDecoder, revert_data
from ledger.chain_events import (
    EventIndex,
    answer_of,
    closing_of,
    commit_of,
    of_round,
    opening_of,
    proposal_of,
    rules_of,
)
from ledger.chain_rpc import TRANSPORT_ERRORS, Patience, Transport
from ledger.chain_types import Answer, Closing, LedgerEvent, MemberState, RoundState, Tip
from ledger.errors import LedgerUnavailable, Unconfirmed, WrongLedger
from ledger.shown import History, ShownProposal
from ledger.statement import Commit, Domain, Opening, Proposal, Rules

T = TypeVar("T")


class LedgerReader:
    """The reading half of `ledger.chain.Ledger`; needs no account.

    Every read is at the latest block, or ``confirmations`` blocks below it.
    """

    def __init__(
        self,
        web3: Web3,
        anchors: Anchors,
        confirmations: int = 0,
        *,
        patience: Patience | None = None,
        first_block: int = 0,
    ) -> None:
        """Bind to a contract without asking the node anything; `Ledger.attach` also checks it.

        Args:
            web3: the node (`ledger.chain_rpc.connect`, or an in-process chain).
            anchors: which federation is expected.
            confirmations: blocks that must lie above a record before it counts.
            patience: deadlines.
            first_block: no event of the contract is older (saves a long scan on old chains).
        """
        artefact = load_artefact()
        self.web3 = web3
        self.anchors = anchors
        self.confirmations = confirmations
        self._transport = Transport(web3, patience or Patience())
        self._contract = web3.eth.contract(
            address=web3.to_checksum_address(anchors.contract), abi=list(artefact.abi)
        )
        self._decoder = RevertDecoder(artefact.abi)
        self._index = EventIndex(self._transport, self._contract, first_block=first_block)
        self._history = History(anchors.domain)

    @property
    def domain(self) -> Domain:
        """What is bound into every hash and seal of this federation."""
        return self.anchors.domain

    # ---- heights and times ----

    def height(self) -> int:
        """Return the number of the newest block that counts (latest less confirmations).

        Raises:
            Unconfirmed: the whole chain is younger than that.
            LedgerUnavailable: the node cannot be reached.
        """
        latest = self._transport.read("for the height", lambda: self.web3.eth.block_number)
        if latest < self.confirmations:
            raise Unconfirmed(
                f"the chain has {latest} blocks, and {self.confirmations} confirmations are asked"
            )
        return int(latest) - self.confirmations

    def time(self, block: int | None = None) -> int:
        """Return the timestamp of a block (default: the newest that counts), in Unix seconds."""
        number = self.height() if block is None else block
        found = self._transport.read("for a block", lambda: self.web3.eth.get_block(number))
        return int(found["timestamp"])

    def clock(self) -> int:
        """Return the node's own clock: the time it would give a block mined now (Unix seconds).

        On a chain that mines only on demand the latest block may be old without any clock being
        wrong; the pending block is not.
        """
        try:
            found = self._transport.ask("for its clock", lambda: self.web3.eth.get_block("pending"))
        except (Web3RPCError, BlockNotFound):  # a node that offers no pending block
            return self.time()
        return int(found["timestamp"])

    def tip(self) -> Tip:
        """Return sequence, head and time of the newest block that counts, read at one height."""
        block = self.height()
        return Tip(
            sequence=int(self._call("sequence", block=block)),
            head=bytes(self._call("head", block=block)),
            block=block,
            time=self.time(block),
        )

    # ---- state ----

    def head(self) -> bytes:
        """Return the head of the hash chain over every record (32 bytes)."""
        return bytes(self._call("head"))

    def sequence(self) -> int:
        """Return the number of the latest record."""
        return int(self._call("sequence"))

    def model(self) -> bytes:
        """Return the digest of the last final model (the initial one before any)."""
        return bytes(self._call("model"))

    def rules(self) -> Rules:
        """Return the rules fixed at deployment."""
        return rules_of(self._call("rules"))

    def round(self) -> RoundState:
        """Return the live (or last) round; its number is 0 before the first."""
        return RoundState.of(self._call("lastRound"))

    def member(self, hospital: str) -> MemberState:
        """Return one hospital's standing.

        Raises:
            NotMember: the address was never enrolled (where the contract says so).
        """
        return MemberState.of(self._call("member", hospital))

    def seats(self) -> tuple[str, ...]:
        """Return every address ever enrolled, by seat."""
        return tuple(self._call("seats"))

    def coordinator(self) -> str:
        """Return the present coordinator's address."""
        return str(self._call("coordinator"))

    # ---- records, from events ----

    def events(self, from_block: int = 0) -> list[LedgerEvent]:
        """Return the contract's events from ``from_block`` on, in the chain's order."""
        return [e for e in self._index.through(self.height()) if e.block >= from_block]

    def opening(self, number: int) -> Opening:
        """Return how round ``number`` was opened.

        Raises:
            Unconfirmed: it is not open, or not under enough confirmations yet.
        """
        found = of_round(self.events(), number, "RoundOpened")
        if not found:
            raise Unconfirmed(
                f"round {number} is not open on the chain with {self.confirmations} confirmations"
            )
        return opening_of(found[0])

    def opened_at(self, number: int) -> int:
        """Return when round ``number`` was opened, by the chain's clock (Unix seconds)."""
        opening = of_round(self.events(), number, "RoundOpened")
        if not opening:
            raise Unconfirmed(f"round {number} is not open on the chain")
        return self.time(opening[0].block)

    def commits(self, number: int) -> dict[str, Commit]:
        """Return the commits of round ``number`` by hospital, in the chain's order."""
        found = (commit_of(e) for e in of_round(self.events(), number, "Committed"))
        return {commit.hospital: commit for commit in found}

    def proposal(self, number: int) -> Proposal | None:
        """Return the one proposal of round ``number``, or None while there is none."""
        found = of_round(self.events(), number, "Proposed")
        return proposal_of(found[0]) if found else None

    def answers(self, number: int) -> dict[str, Answer]:
        """Return what the hospitals answered to the proposal of round ``number``."""
        names = ("Attested", "Dissented", "Contested")
        found = (answer_of(e) for e in of_round(self.events(), number, *names))
        return {answer.hospital: answer for answer in found}

    def closing(self, number: int) -> Closing | None:
        """Return how round ``number`` ended, or None while it has not."""
        found = of_round(self.events(), number, "Finalised", "RoundAborted")
        return closing_of(found[0]) if found else None

    # ---- records, hashed again: for whoever vouches for what was shown ----

    def shown_opening(self, number: int) -> Opening:
        """As `opening`, with every event hashed and led to the heads (see `ledger.shown`).

        Raises:
            HeadMismatch: the node shows another history than its heads stand for.
            Unconfirmed: the round is not open, or not under enough confirmations yet.
        """
        return self._history.opening(self.events(), number)

    def shown_proposal(self, number: int) -> ShownProposal | None:
        """Return round ``number``, its proposal and the computed head, None while there is none.

        Raises:
            HeadMismatch: the node shows another history than its heads stand for.
        """
        return self._history.proposal(self.events(), number)

    # ---- asking ----

    def ask(self, what: str, question: Callable[[], T]) -> T:
        """Ask the node anything else, with this ledger's patience (see `Transport.read`)."""
        return self._transport.read(what, question)

    def _call(self, name: str, *args: Any, block: int | None = None) -> Any:
        """Call a view at one height; an absent contract is an error of its own."""
        number = self.height() if block is None else block
        function: Callable[..., Any] = self._contract.get_function_by_name(name)
        try:
            return self._transport.ask(
                f"for {name}", lambda: function(*args).call(block_identifier=number)
            )
        except TRANSPORT_ERRORS:
            raise
        except BadFunctionCallOutput as error:
            raise self._absent() from error
        except Web3RPCError as error:
            data = revert_data(error)
            if data is None:
                raise LedgerUnavailable(f"the node cannot answer {name}: {error}") from error
            raise self._decoder.decode(data) from None
        except Exception as error:
            data = revert_data(error)
            if data is None:
                raise
            raise self._decoder.decode(data) from None

    def _absent(self) -> Unconfirmed | WrongLedger:
        if self._transport.read(
            "for the contract's code", lambda: self.web3.eth.get_code(self._contract.address)
        ):
            return Unconfirmed(
                f"the contract itself has fewer than {self.confirmations} confirmations"
            )
        return WrongLedger(f"there is no contract at {self._contract.address} on this chain")
