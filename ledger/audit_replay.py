"""The replay level: every sealed update opened, every probe, sum and decision computed again.

Ordering rules, round by round (a step relies only on those before it):

1. Every committed ciphertext is there and hashes to its seal digest. (That a hospital sent nothing,
   or something else than it committed, is why it may be missing: then it must have been refused.)
2. It opens under a key that is held, in this federation, round, hospital and base model.
3. Salt and update give the committed opening digest; the update is canonical and of what travels.
4. The update's own probes are the recorded ones: a hospital whose probes are of *another* update
   is named here, and nowhere else (colluders can make T = <r, S> hold among themselves).
5. S is, coordinate by coordinate, the weighted sum of the accepted updates.
6. Every decision follows again from the update and the round's policy (`audit_screen`).

What was erased after its declared life is a note too, and its round is not replayed. A key that
was destroyed after its retention ends the replay of what was sealed to it with a note
(`EvidenceErased`), not with a failure; what the lower levels proved stands.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ledger.audit_models import Auditor, RoundArithmetic, fetch
from ledger.audit_openings import Opened, key_of, open_commit
from ledger.audit_screen import check_screen, read_decisions
from ledger.errors import (
    CodecError,
    CommitMissing,
    DigestMismatch,
    EvidenceErased,
    InvalidStatement,
    ModelDigestMismatch,
    NormExceeded,
    NothingReceived,
    OpeningMismatch,
    ProbeMismatch,
    SealBroken,
    SealingError,
    StandingMismatch,
    StoreError,
    SumMismatch,
    SumOutOfRange,
    UndeclaredOutput,
    WrongBaseModel,
    WrongDomain,
    WrongRound,
    by_code,
)
from ledger.facts import Facts
from ledger.findings import Book
from ledger.manifest import Manifest, decode_tensors
from ledger.probe import probe_update
from ledger.quantise import squared_norm

_OPENED = (OpeningMismatch, WrongBaseModel, WrongRound, WrongDomain)
_NOT_REPLAYED = (NothingReceived, DigestMismatch, CommitMissing, UndeclaredOutput)


def audit_replay(facts: Facts, arithmetic: tuple[RoundArithmetic, ...], book: Book) -> bool:
    """Check the replay level in the order of the module's docstring.

    Returns:
        Whether any update could be opened at all.
    """
    if facts.objects is None:
        return False
    any_opened = False
    for known in arithmetic:
        auditor = Auditor(book=book, past=known.past, expired=known.expired)
        if known.update is None or not known.past.commits:
            continue
        key = key_of(facts, known, auditor)
        opened = {
            seat: open_commit(facts, known, known.update, commit, key, auditor)
            for seat, commit in sorted(known.past.commits.items())
        }
        if key is None or any(isinstance(o.error, EvidenceErased) for o in opened.values()):
            continue
        any_opened = True
        _check_round(facts, known, known.update, opened, auditor)
    return any_opened


def _check_round(
    facts: Facts,
    known: RoundArithmetic,
    update: Manifest,
    opened: dict[int, Opened],
    auditor: Auditor,
) -> None:
    proposal = known.past.proposal
    if proposal is None:
        return
    for seat in known.past.seats(proposal.accepted):
        _check_accepted(opened[seat], proposal.beacon, proposal.probes[seat], known, auditor)
    _check_sum(facts, known, update, opened, auditor)
    for seat in known.past.seats(proposal.refused):
        _check_refused(opened[seat], proposal.reasons.get(seat, 0), auditor)
    _check_dissents(known, opened, auditor)
    if facts.objects is None:
        return
    recorded = read_decisions(facts.objects, known.past, auditor)
    updates = {o.commit.hospital: o.q for o in opened.values() if o.q is not None}
    check_screen(known, updates, recorded, auditor)


def _check_accepted(
    item: Opened,
    beacon: bytes,
    recorded: tuple[int, ...],
    known: RoundArithmetic,
    auditor: Auditor,
) -> None:
    who = item.commit.hospital
    if item.q is None:
        auditor.check(
            False,
            "opening",
            f"{who} was accepted, but its sealed update does not open as committed: {item.error}",
            type(item.error) if item.error else SealBroken,
            hospital=who,
        )
        return
    auditor.check(True, "opening", "", SealBroken)
    own = probe_update(beacon, item.q)
    auditor.check(
        own == recorded,
        "probes of its own update",
        f"the probes recorded for {who} are not those of the update it committed: what entered"
        " the sum in its name was another one",
        ProbeMismatch,
        hospital=who,
        expected=own,
        found=recorded,
    )
    bound = known.past.opening.norm_bound
    squares = squared_norm(item.q)
    auditor.check(
        squares <= bound * bound,
        "norm of the update",
        f"the update of {who} was accepted over the round's norm bound",
        NormExceeded,
        hospital=who,
        expected=f"at most {bound}",
        found=squares**0.5,
    )


def _check_sum(
    facts: Facts,
    known: RoundArithmetic,
    update: Manifest,
    opened: dict[int, Opened],
    auditor: Auditor,
) -> None:
    proposal = known.past.proposal
    if proposal is None or facts.objects is None:
        return
    parts = [opened[seat] for seat in known.past.seats(proposal.accepted)]
    if any(part.q is None for part in parts):
        return  # named above
    try:
        total = decode_tensors(
            fetch(facts.objects, "sums", proposal.sum_digest), update, "I64"
        ).copy()
    except (StoreError, CodecError):
        return  # named by the models level
    for part in parts:
        if part.q is not None:
            total -= np.multiply(part.q, part.commit.weight, dtype=np.int64)
    wrong = int(np.count_nonzero(total))
    auditor.check(
        wrong == 0,
        "S bit for bit",
        f"the published sum differs from the weighted sum of the accepted updates in {wrong} of"
        f" {total.size} coordinates",
        SumMismatch,
        expected="no difference",
        found=f"{wrong} coordinates, the first at {_first(total)}",
    )


def _first(total: Iterable[int] | NDArray[np.int64]) -> int:
    found = np.flatnonzero(np.asarray(total))
    return int(found[0]) if found.size else -1


def _check_refused(item: Opened, code: int, auditor: Auditor) -> None:
    """Check a refusal that the sealed bytes alone decide; the screen's come from its own rules."""
    who = item.commit.hospital
    try:
        reason = by_code(code)
    except InvalidStatement as error:
        sentence = f"{who} was refused without a reason that exists: {error}"
        auditor.check(False, "refusal borne out", sentence, StandingMismatch, hospital=who)
        return
    if issubclass(reason, SealingError | CodecError) or reason in _OPENED:
        # Which field of an opening is foreign (_OPENED[1:]) is the coordinator's finding; that the
        # opening is not the committed one is what bytes can show.
        kind = OpeningMismatch if reason in _OPENED else reason
        auditor.check(
            isinstance(item.error, kind),
            "refusal borne out",
            f"{who} was refused for {reason.__name__}, but its evidence"
            f" {'opens as committed' if item.q is not None else f'shows: {item.error}'}",
            StandingMismatch,
            hospital=who,
            expected=type(item.error).__name__ if item.error else "no error",
            found=reason.__name__,
        )
    elif reason in _NOT_REPLAYED:
        auditor.check(
            False,
            "refusal not replayable",
            f"{who} was refused for {reason.__name__}, which what is stored can neither show nor"
            " refute; only the hospital could contest it",
            reason,
            hospital=who,
            severity="note",
        )


def _check_dissents(known: RoundArithmetic, opened: dict[int, Opened], auditor: Auditor) -> None:
    """Settle each dissent from the evidence: was what the hospital claimed to see there?

    Always a note: a dissent only ever costs a round. It names whom the evidence contradicts.
    """
    proposal = known.past.proposal
    if proposal is None:
        return
    for seat in known.past.seats(known.past.against & proposal.accepted):
        item = opened[seat]
        who, code = item.commit.hospital, known.past.codes.get(item.commit.hospital, 0)
        own = item.q is not None and probe_update(proposal.beacon, item.q) == proposal.probes[seat]
        refuted = {
            SumMismatch.code: known.sum_agrees,
            SumOutOfRange.code: known.sum_in_range,
            ProbeMismatch.code: own,
            ModelDigestMismatch.code: known.model_agrees,
            StandingMismatch.code: own,
        }.get(code, False)
        reason = _reason(code)
        auditor.check(
            not refuted,
            "dissent borne out",
            f"{who} dissented for {reason}, but the stored sum, model and its own sealed update"
            " agree with the proposal: a false dissent, or it was served other bytes than stored",
            StandingMismatch,
            hospital=who,
            found=reason,
            severity="note",
        )


def _reason(code: int) -> str:
    try:
        return by_code(code).__name__
    except InvalidStatement:
        return f"the unknown code {code}"
