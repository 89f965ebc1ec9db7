"""Every epsilon computed again from the mechanisms that were committed, hospital by hospital.

A hospital charges before it trains, so its recorded total may lie above what its commits explain (a
charged round that crashed, or missed the window: spent stays spent). It may never lie below; where
it does and the coordinator refused the update for exactly that, the round did as it should, and
the finding is a note. The models level also holds each declared mechanism against the round's
published plan (`check_mechanisms`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ledger.canonical import parse_json, sha256
from ledger.epsilon import MICRO, TOLERANCE, Release, micro_epsilon
from ledger.errors import (
    BudgetNotCharged,
    EvidenceMismatch,
    EvidenceMissing,
    InvalidStatement,
    PolicyError,
    PrivacyPolicyViolation,
    StandingMismatch,
    ThoracleError,
)
from ledger.facts import Objects
from ledger.findings import Book
from ledger.replica import History
from ledger.replica_round import RoundHistory
from ledger.statement import Commit, Mechanism, Unit

MAX_LIST = 1 << 20
_PLANNED = ("noise_multiplier", "sample_rate", "steps", "delta")
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


@dataclass(frozen=True, kw_only=True)
class Charges:
    """Every hospital's budget, and the (round, seat) of each commit that charged too little."""

    budgets: tuple[Budget, ...] = ()
    short: frozenset[tuple[int, int]] = frozenset()


@dataclass(kw_only=True)
class _Account:
    """One hospital's commits, each with the refusal it met, while they are followed."""

    hospital: str
    opening: int
    commits: list[tuple[Commit, int]] = field(default_factory=list)
    short: set[tuple[int, int]] = field(default_factory=set)


def check_budgets(history: History, objects: Objects | None, book: Book) -> Charges:
    """Recompute every committed epsilon; budgets come in seat order."""
    if history.rules.privacy_unit == Unit.NONE:
        return Charges()
    seats = sorted(history.members.seats.values(), key=lambda seat: seat.index)
    accounts = {
        seat.hospital: _Account(hospital=seat.hospital, opening=seat.opening) for seat in seats
    }
    for past in history.rounds:
        for seat_number, commit in past.commits.items():
            item = (commit, past.refusal_of(seat_number))
            accounts[commit.hospital].commits.append(item)
    budgets = tuple(
        _budget(history, account, objects, book)
        for account in accounts.values()
        if account.commits or history.members.seats[account.hospital].registered
    )
    short = frozenset().union(*(account.short for account in accounts.values()))
    return Charges(budgets=budgets, short=short)


def _budget(history: History, account: _Account, objects: Objects | None, book: Book) -> Budget:
    who = account.hospital
    releases: list[Release] = []
    expected: int | None = account.opening
    for commit, refusal in account.commits:
        try:
            releases += [Release.of(item) for item in _listed(commit, objects)]
            expected = account.opening + micro_epsilon(releases, commit.mechanism.delta / 10**12)
        except (ThoracleError, KeyError) as error:
            expected = None
            sentence = f"the epsilon of {who} cannot be recomputed: {error}"
            kind = type(error) if isinstance(error, ThoracleError) else InvalidStatement
        else:
            if _covered(expected, commit, book):
                continue
            sentence, kind = f"{who} charged less than its mechanisms cost", BudgetNotCharged
        account.short.add((commit.round, commit.seat))
        refused = refusal == PrivacyPolicyViolation.code
        book.check(
            False,
            "epsilon recomputed",
            sentence + (", and was refused for it" if refused else ""),
            expected="" if expected is None else f"at least {expected / MICRO}",
            found=commit.mechanism.epsilon / MICRO,
            error=kind,
            round=commit.round,
            hospital=who,
            severity="note" if refused else "failure",
        )
    commits, seat = [commit for commit, _ in account.commits], history.members.seats[who]
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


def _covered(expected: int, commit: Commit, book: Book) -> bool:
    """Return whether a commit charged enough, having counted or noted it."""
    found, who = commit.mechanism.epsilon, commit.hospital
    if found < expected - _SLACK:
        return False
    book.check(True, "epsilon recomputed", "", error=BudgetNotCharged)
    if found > expected + TOLERANCE * MICRO:
        book.note(
            "epsilon above its mechanisms",
            f"{who} charged more than its commits explain ({(found - expected) / MICRO:.6f}):"
            " rounds that were charged but never committed would do this, and harm no patient",
            error=BudgetNotCharged,
            round=commit.round,
            hospital=who,
            found=found / MICRO,
        )
    return True


def weaker_than(plan: Mapping[str, int], declared: Mechanism) -> str:
    """Return the parameter in which a mechanism protects less than the round's plan, or ""."""
    if declared.noise_multiplier < plan["noise_multiplier"]:
        return "noise_multiplier"
    return next((name for name in _PLANNED[1:] if getattr(declared, name) > plan[name]), "")


def check_mechanisms(
    past: RoundHistory,
    config: Mapping[str, object],
    short: frozenset[tuple[int, int]],
    book: Book,
) -> None:
    """Decide again whether each declared mechanism meets the round's published plan.

    Accepted although it does not, or refused for it although it does: `PrivacyPolicyViolation` and
    `StandingMismatch`.
    """
    plan, number = config.get("privacy"), past.opening.round
    if plan is None or past.proposal is None:
        return
    table = plan if isinstance(plan, Mapping) else {}
    known = {name: table.get(name) for name in _PLANNED}
    whole = {name: value for name, value in known.items() if type(value) is int and value > 0}
    if not book.check(
        len(whole) == len(_PLANNED),
        "privacy plan",
        f"the privacy plan of round {number} lacks a whole number above 0: nothing could pass it",
        found=known,
        error=PolicyError,
        round=number,
    ):
        return
    for seat, commit in sorted(past.commits.items()):
        weak = weaker_than(whole, commit.mechanism)
        code = past.refusal_of(seat)
        refused = code == PrivacyPolicyViolation.code
        book.check(
            bool(code) or not weak,
            "mechanism meets the plan",
            f"{commit.hospital} was accepted with a {weak} that protects less than the plan asks",
            error=PrivacyPolicyViolation,
            round=number,
            hospital=commit.hospital,
        )
        book.check(
            not refused or bool(weak) or (number, seat) in short,
            "mechanism refusal borne out",
            f"{commit.hospital} was refused for its mechanism, which meets the round's plan",
            error=StandingMismatch,
            round=number,
            hospital=commit.hospital,
        )
