"""The replay level: every sealed update opened, every probe, sum and decision computed again.

Ordering rules, round by round (a step relies only on those before it):

1. Every committed ciphertext is there and hashes to its seal digest. (That a hospital sent nothing,
   or something else than it committed, is why it may be missing: then it must have been refused.)
2. It opens under a key that is held, in this federation, round, hospital and base model.
3. Salt and update give the committed opening digest; the update is canonical and of the manifest.
4. The update's own probes are the recorded ones: a hospital whose probes are of *another* update
   is named here, and nowhere else (colluders can make T = <r, S> hold among themselves).
5. S is, coordinate by coordinate, the weighted sum of the accepted updates.
6. Every decision follows again from the update and the round's policy (`audit_screen`).

A key that was destroyed after its retention ends the replay of what was sealed to it with a note
(`EvidenceErased`), not with a failure; what the lower levels proved stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ledger.audit_models import Auditor, RoundArithmetic, fetch
from ledger.audit_screen import check_screen, read_decisions
from ledger.errors import (
    CodecError,
    DigestMismatch,
    EvidenceErased,
    EvidenceMissing,
    NothingReceived,
    OpeningMismatch,
    ProbeMismatch,
    Refusal,
    SealBroken,
    SealingError,
    StaleKey,
    StandingMismatch,
    StoreError,
    SumMismatch,
    ThoracleError,
    by_code,
)
from ledger.facts import Facts, HeldKey
from ledger.findings import Book
from ledger.manifest import Manifest, decode_tensors
from ledger.probe import probe_update
from ledger.quantise import squared_norm
from ledger.seal import (
    MAX_RECIPIENTS,
    SealContext,
    key_digest,
    key_from_seed,
    key_id,
    sealed_size,
    unseal,
)
from ledger.statement import Commit, Domain, seats_of
from ledger.update import decode_opening, opening_digest

_NOT_STORED = (NothingReceived.code, DigestMismatch.code)
"""Reasons that explain why the committed ciphertext is not in the store."""
_EPOCHS = 64
"""Epochs that are tried for a key whose own is not the round's (an auditor's key)."""


@dataclass(kw_only=True)
class Opened:
    """What a replay found of one commit: its update, or why it has none."""

    commit: Commit
    q: NDArray[np.int16] | None = field(default=None, repr=False)
    error: ThoracleError | None = None


def audit_replay(facts: Facts, arithmetic: tuple[RoundArithmetic, ...], book: Book) -> bool:
    """Check the replay level in the order of the module's docstring.

    Returns:
        Whether any update could be opened at all.
    """
    if facts.objects is None:
        return False
    any_opened = False
    for known in arithmetic:
        auditor = Auditor(book=book, past=known.past)
        if known.manifest is None or not known.past.commits:
            continue
        key = _key_of(facts, known, auditor)
        opened = {
            seat: _open(facts, known, known.manifest, commit, key, auditor)
            for seat, commit in sorted(known.past.commits.items())
        }
        if key is None:
            continue
        any_opened = True
        _check_round(facts, known, known.manifest, opened, auditor)
    return any_opened


# ---- 1 to 3: the evidence and its openings ----


def _key_of(
    facts: Facts, known: RoundArithmetic, auditor: Auditor
) -> tuple[HeldKey, tuple[int, ...]] | None:
    """Return a held key and the epochs to try it with, for one round; None where none is held."""
    announced = known.past.opening.key_digest
    for key in facts.keys:
        if key_digest([key_from_seed(key.seed).public], key.epoch) == announced:
            return key, (key.epoch,)
    # With several recipients the digest cannot be recomputed from one key: the ciphertexts name
    # theirs.
    for key in facts.keys:
        if _is_recipient(facts, known, key):
            return key, (key.epoch, *(e for e in range(_EPOCHS) if e != key.epoch))
    if facts.erased:
        auditor.check(
            False,
            "evidence erased",
            f"the key to this round was destroyed after its retention ({_tombstones(facts)});"
            " its openings can no longer be replayed",
            EvidenceErased,
            severity="note",
        )
    elif facts.keys:
        auditor.check(
            False,
            "key of the round",
            "none of the keys held opens this round; its openings were not replayed",
            StaleKey,
            severity="note",
        )
    return None


def _is_recipient(facts: Facts, known: RoundArithmetic, key: HeldKey) -> bool:
    name = key_id(key_from_seed(key.seed).public)
    for commit in known.past.commits.values():
        try:
            data = fetch(facts.objects, "evidence", commit.seal_digest) if facts.objects else b""
        except StoreError:
            continue
        if name in data[: sealed_size(0, MAX_RECIPIENTS)]:
            return True
    return False


def _tombstones(facts: Facts) -> str:
    return "; ".join(f"{name}: {why}" for name, why in sorted(facts.erased.items()))


def _ciphertext(
    facts: Facts, known: RoundArithmetic, commit: Commit, auditor: Auditor
) -> bytes | None:
    proposal = known.past.proposal
    reason = proposal.reasons.get(commit.seat, 0) if proposal else 0
    if facts.objects is None:
        return None
    try:
        data = fetch(facts.objects, "evidence", commit.seal_digest)
    except EvidenceMissing as error:
        excused = proposal is None or reason in _NOT_STORED
        auditor.check(
            excused,
            "evidence stored",
            f"the sealed update of {commit.hospital} is missing: {error}",
            EvidenceMissing,
            hospital=commit.hospital,
        )
        return None
    except StoreError as error:
        auditor.check(False, "evidence stored", str(error), type(error), hospital=commit.hospital)
        return None
    auditor.check(True, "evidence stored", "", EvidenceMissing)
    return data


def _open(
    facts: Facts,
    known: RoundArithmetic,
    manifest: Manifest,
    commit: Commit,
    key: tuple[HeldKey, tuple[int, ...]] | None,
    auditor: Auditor,
) -> Opened:
    found = Opened(commit=commit)
    data = _ciphertext(facts, known, commit, auditor)
    if data is None:
        found.error = NothingReceived(f"nothing of {commit.hospital} is stored")
    elif key is not None:
        try:
            plain = _unsealed(data, known, commit, facts.claimed.domain, key)
            salt, update, q = decode_opening(plain, manifest)
            past = known.past.opening
            own = opening_digest(
                facts.claimed.domain, commit.hospital, past.base_model, past.round, salt, update
            )
            if own != commit.opening_digest:
                raise OpeningMismatch(f"{commit.hospital} committed to another update")
            found.q = q
        except (SealingError, CodecError, Refusal) as error:
            found.error = error
    return found


def _unsealed(
    data: bytes,
    known: RoundArithmetic,
    commit: Commit,
    domain: Domain,
    key: tuple[HeldKey, tuple[int, ...]],
) -> bytes:
    held, epochs = key
    private = key_from_seed(held.seed)
    last = SealBroken("no epoch to try")
    for epoch in epochs:
        context = SealContext(
            domain=domain,
            round=known.past.opening.round,
            hospital=commit.hospital,
            base_model=known.past.opening.base_model,
            key_epoch=epoch,
        )
        try:
            return unseal(data, private, context)
        except SealBroken as error:
            last = error
    raise last


# ---- 4 to 6: probes, sum, decisions ----


def _check_round(
    facts: Facts,
    known: RoundArithmetic,
    manifest: Manifest,
    opened: dict[int, Opened],
    auditor: Auditor,
) -> None:
    proposal = known.past.proposal
    if proposal is None:
        return
    for seat in seats_of(proposal.accepted):
        _check_accepted(opened[seat], proposal.beacon, proposal.probes[seat], known, auditor)
    _check_sum(facts, known, manifest, opened, auditor)
    for seat in seats_of(proposal.refused):
        _check_refused(opened[seat], proposal.reasons.get(seat, 0), auditor)
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
        by_code(28),
        hospital=who,
        expected=f"at most {bound}",
        found=squares**0.5,
    )


def _check_sum(
    facts: Facts,
    known: RoundArithmetic,
    manifest: Manifest,
    opened: dict[int, Opened],
    auditor: Auditor,
) -> None:
    proposal = known.past.proposal
    if proposal is None or facts.objects is None:
        return
    parts = [opened[seat] for seat in seats_of(proposal.accepted)]
    if any(part.q is None for part in parts):
        return  # named above
    try:
        total = decode_tensors(
            fetch(facts.objects, "sums", proposal.sum_digest), manifest, "I64"
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
    who, reason = item.commit.hospital, by_code(code)
    decided_by_bytes = issubclass(reason, SealingError | CodecError) or reason is OpeningMismatch
    if decided_by_bytes:
        auditor.check(
            isinstance(item.error, reason),
            "refusal borne out",
            f"{who} was refused for {reason.__name__}, but its evidence"
            f" {'opens as committed' if item.q is not None else f'shows: {item.error}'}",
            StandingMismatch,
            hospital=who,
            expected=type(item.error).__name__ if item.error else "no error",
            found=reason.__name__,
        )
