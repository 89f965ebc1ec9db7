"""The screen's decisions, measured and decided a second time from the opened updates.

Written from the documented rules, not from the server's code: norms and cosines come from the exact
integer inner products G_ij = <q_i, q_j>, and each rule looks only at updates that no earlier rule
caught. A refusal that does not follow from them, and an acceptance that a rule forbids, is
`StandingMismatch`: the coordinator decided against its own published policy.

1. ``NormExceeded``: G_ii over the squared norm bound.
2. ``InertUpdate``: zero, or a norm under ``inert_share`` of the median norm.
3. ``WeakNoise``: a norm under ``noise_floor``.
4. ``DuplicateUpdate``: a cosine with another of ``copy_cosine`` or more.
5. ``OutlierUpdate`` (three or more): with least = max(cosine_margin, z / sqrt(d)), the median of
   all upper medians of cosines is at least ``least`` and ``agreement``, and this one lies under all
   of -least, that median less ``mad_factor`` deviations (1.4826 MAD, at least 1 / sqrt(d)), and
   minus ``mirror_share`` of it. The two newest thresholds are 0 where a policy does not say them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ledger.audit_models import Auditor, RoundArithmetic
from ledger.canonical import parse_json
from ledger.errors import (
    CodecError,
    DuplicateUpdate,
    EvidenceMismatch,
    InertUpdate,
    NormExceeded,
    OutlierUpdate,
    Refusal,
    StandingMismatch,
    StoreError,
    WeakNoise,
)
from ledger.facts import Objects
from ledger.replica_round import RoundHistory

MAX_DECISIONS = 4 << 20
FORMAT = "thoracle/decisions/v1"
_CHUNK = 1 << 18
_RULES: dict[int, type[Refusal] | None] = {
    0: None,
    **{
        rule.code: rule
        for rule in (NormExceeded, InertUpdate, WeakNoise, DuplicateUpdate, OutlierUpdate)
    },
}
"""What the screen can decide, by the code on the chain (0: accepted)."""
_THRESHOLDS = ("inert_share", "noise_floor", "copy_cosine", "cosine_margin", "z", "mad_factor")
_NEWEST = ("agreement", "mirror_share")
"""Thresholds that a policy of before does not say; 0 then."""

Gram = dict[tuple[str, str], int]
Recorded = dict[str, Mapping[str, object]]


def read_decisions(objects: Objects, past: RoundHistory, auditor: Auditor) -> Recorded:
    """Return the recorded decisions by hospital, compared with the chain's."""
    number, proposal = past.opening.round, past.proposal
    data = objects.decisions(number)
    if data is None or proposal is None:
        auditor.check(
            False,
            "decision record",
            f"round {number} has no record of its decisions: they are checked without it",
            StoreError,
            severity="note",
        )
        return {}
    try:
        value = parse_json(data, MAX_DECISIONS)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise EvidenceMismatch(f"the decisions of round {number} are of another format")
        found = {str(item["hospital"]): item for item in value["decisions"]}
        codes = {who: int(item["code"]) for who, item in found.items() if item["seat"] is not None}
    except (CodecError, EvidenceMismatch, KeyError, TypeError, ValueError) as error:
        sentence = f"the decisions of round {number} cannot be read: {error}"
        auditor.check(False, "decision record", sentence, EvidenceMismatch)
        return {}
    chain = {
        past.commits[seat].hospital: proposal.reasons.get(seat, 0)
        for seat in past.seats(proposal.accepted | proposal.refused)
    }
    auditor.check(
        codes == chain and value.get("round") == number,
        "decision record",
        f"the recorded decisions of round {number} are not those proposed on the chain",
        EvidenceMismatch,
        expected=chain,
        found=codes,
    )
    return found


def inner_products(updates: Mapping[str, NDArray[np.int16]]) -> Gram:
    """Return every <q_i, q_j> exactly: chunks of 2^18 products below 2^30 stay below 2^53."""
    names = sorted(updates)
    total: Gram = {(a, b): 0 for a in names for b in names}
    size = updates[names[0]].size if names else 0
    for begin in range(0, size, _CHUNK):
        parts = {n: updates[n][begin : begin + _CHUNK].astype(np.float64) for n in names}
        for i, a in enumerate(names):
            for b in names[i:]:
                value = int(parts[a] @ parts[b])
                total[a, b] += value
                if a != b:
                    total[b, a] += value
    return total


def check_screen(
    known: RoundArithmetic,
    updates: Mapping[str, NDArray[np.int16]],
    recorded: Recorded,
    auditor: Auditor,
) -> None:
    """Decide again on every update that reached the screen, and compare with chain and record."""
    proposal, policy = known.past.proposal, known.config.get("screen")
    if proposal is None:
        return
    codes = {c.hospital: proposal.reasons.get(seat, 0) for seat, c in known.past.commits.items()}
    # Whoever was refused before the screen (its privacy policy, its metrics) took no part in it.
    updates = {who: q for who, q in updates.items() if codes[who] in _RULES}
    if not updates:
        return
    if not isinstance(policy, dict) or not all(
        isinstance(value, float | int)
        for value in (
            *(policy.get(name) for name in _THRESHOLDS),
            *(policy.get(name, 0.0) for name in _NEWEST),
        )
    ):
        auditor.check(
            False,
            "screen policy",
            "the round's configuration holds no screening policy to decide by",
            StandingMismatch,
        )
        return
    products = inner_products(updates)
    _check_measurements(products, recorded, auditor)
    bound, size = known.past.opening.norm_bound, next(iter(updates.values())).size
    expected = decide_again(products, sorted(updates), policy, bound, size)
    for seat, commit in sorted(known.past.commits.items()):
        who = commit.hospital
        if who not in updates:
            continue
        reason, own = _RULES[codes[who]], expected.get(who)
        auditor.check(
            own is reason or (reason is NormExceeded and own is None and _over(known, seat)),
            "screening decision",
            f"by the round's own policy the update of {who} should have been"
            f" {f'refused for {own.__name__}' if own else 'accepted'}",
            StandingMismatch,
            hospital=who,
            expected=own.__name__ if own else "accepted",
            found=reason.__name__ if reason else "accepted",
        )


def _over(known: RoundArithmetic, seat: int) -> bool:
    """A refused hospital's probes are not on the chain, so its norm cap cannot be re-checked."""
    proposal = known.past.proposal
    return proposal is not None and seat not in proposal.probes


def _check_measurements(products: Gram, recorded: Recorded, auditor: Auditor) -> None:
    for who, item in sorted(recorded.items()):
        measured = item.get("measurement")
        if isinstance(measured, Mapping) and (who, who) in products:
            auditor.check(
                measured.get("norm_squared") == products[who, who],
                "recorded measurement",
                f"the norm recorded for {who} is not that of its update",
                EvidenceMismatch,
                hospital=who,
                expected=products[who, who],
                found=measured.get("norm_squared"),
            )


def decide_again(
    products: Gram, names: list[str], policy: Mapping[str, float], bound: int, size: int
) -> dict[str, type]:
    """Return the rule that refuses each refused update, by the order of the module's docstring."""
    norms = {name: math.sqrt(products[name, name]) for name in names}
    median = statistics.median(norms.values())
    refused: dict[str, type] = {}
    for name in names:
        if products[name, name] > bound * bound:
            refused[name] = NormExceeded
        elif not norms[name] or norms[name] < policy["inert_share"] * median:
            refused[name] = InertUpdate
        elif norms[name] < policy["noise_floor"]:
            refused[name] = WeakNoise
    if not policy.get("directions", True):
        return refused
    left = [name for name in names if name not in refused]
    cosine = {(a, b): products[a, b] / norms[a] / norms[b] for a in left for b in left if a != b}
    copies = {a for a in left if any(cosine[a, b] >= policy["copy_cosine"] for b in left if b != a)}
    refused |= dict.fromkeys(copies, DuplicateUpdate)
    kept = [name for name in left if name not in copies]
    if len(kept) >= 3:
        medians = {a: statistics.median_high(cosine[a, b] for b in kept if b != a) for a in kept}
        unit = 1 / math.sqrt(size)
        centre = statistics.median(medians.values())
        spread = statistics.median(abs(m - centre) for m in medians.values())
        deviation = max(1.4826 * spread, unit)
        least = max(policy["cosine_margin"], policy["z"] * unit)
        mirror = -policy.get("mirror_share", 0.0) * centre
        floor = min(-least, mirror, centre - policy["mad_factor"] * deviation)
        if centre >= max(least, policy.get("agreement", 0.0)):
            refused |= {a: OutlierUpdate for a, value in medians.items() if value < floor}
    return refused
