"""Every epsilon computed again from the mechanisms that were committed, hospital by hospital.

A hospital charges before it trains, so its recorded total may lie above what its commits explain (a
charged round that crashed, or missed the window: spent stays spent). It may never lie below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.canonical import parse_json, sha256
from ledger.epsilon import MICRO, TOLERANCE, Release, micro_epsilon
from ledger.errors import (
    BudgetNotCharged,
    EvidenceMismatch,
    EvidenceMissing,
    InvalidStatement,
    ThoracleError,
)
from ledger.facts import Objects
from ledger.findings import Book
from ledger.replica import History
from ledger.statement import Commit, Mechanism, Unit

MAX_LIST = 1 << 20
_SLACK = 1
"""Micro-epsilon that a last bit of a floating-point sum may turn when it is rounded up."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One hospital's privacy budget: epsilon cumulative over all rounds, in real units.

    ``recomputed`` is the audit's own number (None where a mechanism is not known), ``delta`` the
    last one declared, ``unit`` whom the guarantee protects.
    """

    hospital: str
    unit: str
    spent: float
    recomputed: float | None
    cap: float
    opening: float
    delta: float
    charges: int


def _listed(commit: Commit, objects: Objects | None) -> list[Mechanism]:
    """Return the mechanisms behind a commit: its own, or those of its list."""
    mechanism = commit.mechanism
    if mechanism.list_digest == bytes(32):
        return [mechanism]
    if objects is None:
        raise EvidenceMissing("its list of mechanisms is not among the facts")
    data = objects.get("configs", mechanism.list_digest)
    if sha256(data) != mechanism.list_digest:
        raise EvidenceMismatch("its list of mechanisms is not what its digest says")
    items = parse_json(data, MAX_LIST)
    if not isinstance(items, list) or not items:
        raise EvidenceMismatch("its list of mechanisms is not a list")
    return [_from_json(item, mechanism.delta) for item in items]


def _from_json(item: object, delta: int) -> Mechanism:
    if not isinstance(item, Mapping):
        raise EvidenceMismatch("its list of mechanisms holds something else")
    return Mechanism(
        noise_multiplier=item["noise_multiplier"],
        sample_rate=item["sample_rate"],
        steps=item["steps"],
        delta=delta,
    )


def check_budgets(history: History, objects: Objects | None, book: Book) -> tuple[Budget, ...]:
    """Recompute every committed epsilon; return each hospital's budget, in seat order."""
    if history.rules.privacy_unit == Unit.NONE:
        return ()
    commits: dict[str, list[Commit]] = {}
    for past in history.rounds:
        for commit in past.commits.values():
            commits.setdefault(commit.hospital, []).append(commit)
    seats = sorted(history.members.seats.values(), key=lambda seat: seat.index)
    return tuple(
        _budget(history, seat.hospital, commits.get(seat.hospital, []), objects, book)
        for seat in seats
        if seat.registered
    )


def _budget(
    history: History, who: str, commits: list[Commit], objects: Objects | None, book: Book
) -> Budget:
    seat = history.members.seats[who]
    releases: list[Release] = []
    expected: int | None = seat.opening
    for commit in commits:
        try:
            releases += [Release.of(item) for item in _listed(commit, objects)]
            expected = seat.opening + micro_epsilon(releases, commit.mechanism.delta / 10**12)
        except (ThoracleError, KeyError) as error:
            expected = None
            book.check(
                False,
                "epsilon recomputed",
                f"the epsilon of {who} cannot be recomputed: {error}",
                error=type(error) if isinstance(error, ThoracleError) else InvalidStatement,
                round=commit.round,
                hospital=who,
            )
            break
        _compare(expected, commit, book)
    deltas = {commit.mechanism.delta for commit in commits}
    if len(deltas) > 1:
        book.note(
            "one delta",
            f"{who} declared several deltas; each epsilon holds at its own round's",
            error=InvalidStatement,
            hospital=who,
            found=sorted(deltas),
        )
    return Budget(
        hospital=who,
        unit=history.rules.privacy_unit.name.lower(),
        spent=seat.spent / MICRO,
        recomputed=None if expected is None else expected / MICRO,
        cap=seat.cap / MICRO,
        opening=seat.opening / MICRO,
        delta=commits[-1].mechanism.delta / 10**12 if commits else 0.0,
        charges=len(commits),
    )


def _compare(expected: int, commit: Commit, book: Book) -> None:
    found, who = commit.mechanism.epsilon, commit.hospital
    holds = book.check(
        found >= expected - _SLACK,
        "epsilon recomputed",
        f"{who} charged less than its mechanisms cost",
        expected=f"at least {expected / MICRO}",
        found=found / MICRO,
        error=BudgetNotCharged,
        round=commit.round,
        hospital=who,
    )
    if holds and found > expected + TOLERANCE * MICRO:
        book.note(
            "epsilon above its mechanisms",
            f"{who} charged more than its commits explain ({(found - expected) / MICRO:.6f}):"
            " rounds that were charged but never committed would do this, and harm no patient",
            error=BudgetNotCharged,
            round=commit.round,
            hospital=who,
            found=found / MICRO,
        )
