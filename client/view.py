"""What one hospital reads off the chain for its checks, gathered into facts."""

from __future__ import annotations

from client.check import Lineage, OwnUpdate
from client.spool import Entry, Spool
from client.terms import RoundTerms
from ledger.chain import Ledger
from ledger.chain_types import LedgerEvent
from ledger.errors import (
    CodecError,
    CommitWindowClosed,
    EvidenceMismatch,
    MemberRevoked,
    NotMember,
    RoundClosed,
    WrongPhase,
    WrongRound,
)
from ledger.shown import ShownProposal
from ledger.statement import Opening, Outcome, Phase, Rules
from ledger.update import decode_opening, opening_digest


def read_lineage(ledger: Ledger, rules: Rules) -> Lineage:
    """Return every model the chain ever named, from its events."""
    events = ledger.events()
    finals = [event for event in events if event.name == "Finalised"]
    return Lineage(
        initial=rules.initial_model,
        finals=tuple(_bytes(event, "model") for event in finals),
        proposed=frozenset(_bytes(e, "modelDigest") for e in events if e.name == "Proposed"),
        quorum_only=frozenset(
            _bytes(event, "model")
            for event in finals
            if event.args["outcome"] == Outcome.QUORUM_ONLY
        ),
    )


def _bytes(event: LedgerEvent, name: str) -> bytes:
    return bytes(event.args[name])


def read_opening(ledger: Ledger, number: int) -> Opening:
    """Return the opening of the live round, which must be the one asked for.

    Raises:
        RoundClosed: no round is live.
        WrongRound: another round is.
        HeadMismatch: the node shows another history than its heads stand for.
    """
    state = ledger.round()
    if state.number != number:
        raise WrongRound(f"the order is for round {number}, the chain's is {state.number}")
    if state.phase is Phase.IDLE:
        raise RoundClosed(f"round {number} is over", round=number)
    return ledger.shown_opening(number)


def check_window(ledger: Ledger, number: int, now: float) -> None:
    """Refuse to start what could no longer be committed.

    Raises:
        CommitWindowClosed: the commit window has closed, on the chain or by the clock.
    """
    state = ledger.round()
    if state.phase is not Phase.COMMITTING or now > state.commit_deadline:
        raise CommitWindowClosed(
            f"the commit window of round {number} has closed",
            round=number,
            closedAt=state.commit_deadline,
            time=int(now),
        )


def check_membership(ledger: Ledger, hospital: str, number: int) -> tuple[int, int]:
    """Return (spent, cap) in micro-epsilon of a hospital that may take part in a round.

    Raises:
        NotMember: it never registered.
        MemberRevoked: it may not take part in this round.
    """
    member = ledger.member(hospital)
    if not member.registered:
        raise NotMember("this hospital has not registered with the federation", sender=hospital)
    if not member.active_in(number):
        raise MemberRevoked(
            f"this hospital may not take part in round {number}",
            sender=hospital,
            sinceRound=member.active_until,
        )
    return member.spent, member.cap


def read_proposal(ledger: Ledger, number: int) -> ShownProposal:
    """Return the live round with its proposal and the head they lead to, from one list of events.

    Raises:
        WrongPhase: there is no proposal yet.
        HeadMismatch: the node shows another history than its heads stand for.
    """
    shown = ledger.shown_proposal(number)
    if shown is None:
        raise WrongPhase(f"round {number} has no proposal yet", phase=ledger.round().phase)
    return shown


def read_own(
    spool: Spool, entry: Entry, ledger: Ledger, hospital: str, terms: RoundTerms
) -> OwnUpdate:
    """Return this hospital's finished update of a round from its spool, verified.

    Raises:
        EvidenceMismatch: the spooled file is not the one that was committed; a damaged disk must
            not look like a forged probe.
    """
    try:
        salt, update, q = decode_opening(spool.update(entry), terms.update)
    except CodecError as error:
        raise EvidenceMismatch(f"the spooled update cannot be read: {error}") from None
    found = opening_digest(ledger.domain, hospital, entry.base_model, entry.round, salt, update)
    if found != entry.opening_digest:
        raise EvidenceMismatch(f"the spooled update of round {entry.round} was changed")
    return OwnUpdate(seal_digest=entry.seal_digest, opening_digest=entry.opening_digest, q=q)
