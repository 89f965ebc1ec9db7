"""Opens a round's sealed evidence: which key, which epoch, and what each commit opens to."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ledger.audit_models import Auditor, RoundArithmetic, fetch
from ledger.errors import (
    CodecError,
    DigestMismatch,
    EvidenceErased,
    EvidenceMissing,
    NothingReceived,
    OpeningMismatch,
    Refusal,
    SealBroken,
    SealingError,
    StaleKey,
    StoreError,
    ThoracleError,
)
from ledger.facts import Facts, HeldKey
from ledger.manifest import Manifest
from ledger.seal import (
    MAX_RECIPIENTS,
    SealContext,
    key_digest,
    key_from_seed,
    key_id,
    sealed_size,
    unseal,
)
from ledger.statement import Commit, Domain
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


def key_of(
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
        if "evidence" in auditor.expired:
            auditor.erased("evidence", f"the sealed update of {commit.hospital}: {error}")
            return None
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
        auditor.check(
            False,
            "evidence stored",
            str(error),
            type(error),
            hospital=commit.hospital,
            severity="failure",  # edited, however the round ended
        )
        return None
    auditor.check(True, "evidence stored", "", EvidenceMissing)
    return data


def open_commit(
    facts: Facts,
    known: RoundArithmetic,
    update: Manifest,
    commit: Commit,
    key: tuple[HeldKey, tuple[int, ...]] | None,
    auditor: Auditor,
) -> Opened:
    """Open one commit's evidence; what prevents it is in ``Opened.error``, never raised.

    ``update`` is the manifest of what travels in the round.
    """
    found = Opened(commit=commit)
    data = _ciphertext(facts, known, commit, auditor)
    if data is None and "evidence" in known.expired:
        found.error = EvidenceErased(f"the sealed update of {commit.hospital} was erased")
    elif data is None:
        found.error = NothingReceived(f"nothing of {commit.hospital} is stored")
    elif key is not None and data is not None:
        try:
            plain = _unsealed(data, known, commit, facts.claimed.domain, key)
            salt, file, q = decode_opening(plain, update)
            past = known.past.opening
            own = opening_digest(
                facts.claimed.domain, commit.hospital, past.base_model, past.round, salt, file
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
