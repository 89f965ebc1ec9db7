"""The audit: facts in, findings out. No clock, disk or network: the same facts, the same report.

Ordering rules:

1. ``chain`` first (`audit_chain`): whose history it is, and whether it follows its own rules.
2. ``models`` (`audit_models`) relies on the digests that step 1 established.
3. ``replay`` (`audit_replay`) relies on both, and on a key.

A level that lacks its facts is not reached, and the report says so: it is never counted as passed.
The verdict is sound only if every check that ran holds *and* at least one check of every kind that
the level promises ran (an empty audit is not a clean one).

What a clean report shows is stated in ``PROVEN`` level by level, what it does not in
``NOT_PROVEN``; both are printed with every report.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger.audit_chain import ChainLevel, audit_chain
from ledger.audit_models import ERASED, audit_models
from ledger.audit_privacy import Budget
from ledger.audit_replay import audit_replay
from ledger.canonical import canonical_json, tagged_digest
from ledger.errors import BundleInvalid, ThoracleError
from ledger.facts import LEVELS, Credit, Facts, Finding, Level
from ledger.findings import Book
from ledger.replica import History
from ledger.replica_round import RoundHistory
from ledger.statement import Outcome, Unit

PROVEN: dict[Level, tuple[str, ...]] = {
    "chain": (
        "each transaction was signed by the account it names; the bytecode is the reviewed one",
        "members, budgets, weights, windows and lineage followed the contract's rules",
        "a second implementation of the rules and a re-execution of the bytecode agree with it",
        "beacon, totals T and norm caps follow from the commits",
        "every attestation is the hospital's own",
    ),
    "models": (
        "every sum and model is the one whose digest stands on the chain",
        "each final model is, bit for bit, its parent plus S * step / W",
        "S agrees with the totals T that the contract computed with its own weights",
    ),
    "replay": (
        "every sealed update opens as committed, and its probes are the recorded ones",
        "S is, coordinate by coordinate, the weighted sum of the accepted updates",
        "every decision that evidence can settle follows from the round's published policy",
    ),
}
NOT_PROVEN = (
    "that a hospital added the noise it declared, or holds the examples it declared",
    "that an update within the norm bound is benign",
    "order, time and completeness of a chain run by one operator (compare witness files)",
    "anything at all if every hospital and the coordinator collude",
)
EPSILON = "every epsilon follows from the mechanism that was declared with it"
"""Proven at the chain level of a private run, and of no other."""
NO_EPSILON = "any privacy: this run had none, so there is no epsilon to recompute"
NO_PRIVACY = (
    "no differential privacy: the probes on the chain are exact figures of each hospital's update,"
    " and whoever holds a guess of that update can test it"
)
_EXPECTED: dict[Level, tuple[str, ...]] = {
    "chain": ("signature and chain id", "head chain", "events re-executed"),
    "models": ("configuration digest", "model arithmetic", "T = <r, S>"),
    "replay": ("opening", "probes of its own update", "S bit for bit"),
}


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """The outcome of one audit.

    Attributes:
        asked: the highest level asked for.
        reached: the levels whose facts were there.
        findings: sorted; failures, unproven and notes.
        passed: checks that held, by level and name.
        history: what the events rebuild, None where they cannot be followed.
        budgets: each hospital's privacy budget.
        credits: declared, not verified.
        gas: by round, spent in its transactions.
        phases: by round, the phase of training that its configuration names, if any.
        marks: what the run says of itself.
    """

    asked: Level
    reached: tuple[Level, ...]
    findings: tuple[Finding, ...]
    passed: dict[Level, dict[str, int]]
    history: History | None = None
    budgets: tuple[Budget, ...] = ()
    credits: tuple[Credit, ...] = ()
    gas: dict[int, int] = field(default_factory=dict)
    phases: dict[int, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    blocks: int = 0
    transactions: int = 0
    dropped: int = 0

    @property
    def failures(self) -> tuple[Finding, ...]:
        """What does not hold."""
        return tuple(item for item in self.findings if item.severity == "failure")

    @property
    def clean(self) -> bool:
        """Whether all holds that was asked for and could be checked."""
        return not self.failures and bool(self.reached)

    @property
    def origin_proven(self) -> bool:
        """Whether the history was compared with trust anchors from outside the run."""
        compared = self.passed.get("chain", {}).get("trusted anchors", 0)
        return bool(compared) and not any(f.error == "OriginUnproven" for f in self.findings)

    @property
    def private(self) -> bool:
        """Whether the contract's rules charge differential privacy."""
        return self.history is not None and self.history.rules.privacy_unit != Unit.NONE

    @property
    def proven(self) -> dict[Level, tuple[str, ...]]:
        """What was proven, by level; nothing where something does not hold."""
        if not self.clean:
            return {}
        extra = {"chain": (EPSILON,)} if self.private else {}
        return {level: PROVEN[level] + extra.get(level, ()) for level in self.reached}

    @property
    def not_proven(self) -> tuple[str, ...]:
        """What no audit of this kind can prove, and what this run never claimed."""
        return NOT_PROVEN if self.private or self.history is None else (*NOT_PROVEN, NO_EPSILON)

    @property
    def verdict(self) -> str:
        """One sentence for a person."""
        if not self.clean:
            first = self.failures[0].sentence if self.failures else "nothing could be checked"
            return f"DOES NOT HOLD: {first}"
        origin = "of the trust anchors given" if self.origin_proven else "origin unproven"
        gone = len(self.erased)
        erased = f"; {gone} rounds were erased as declared and are not covered" if gone else ""
        return f"holds at the level {self.reached[-1]} (consistent, {origin}{erased})"

    @property
    def erased(self) -> tuple[int, ...]:
        """Rounds of which something was erased after its declared life."""
        return tuple(sorted({f.round for f in self.findings if f.check == ERASED}))

    def digest(self) -> bytes:
        """Digest of all that was found, whatever the order of the input (32 bytes)."""
        return tagged_digest("thoracle/audit/v1", canonical_json(self.summary()))

    def summary(self) -> dict[str, object]:
        """Return verdict, counts and findings as plain values."""
        return {
            "verdict": self.verdict,
            "clean": self.clean,
            "origin_proven": self.origin_proven,
            "asked": self.asked,
            "reached": list(self.reached),
            "checks": {level: dict(sorted(found.items())) for level, found in self.passed.items()},
            "findings": [vars(item) for item in self.findings],
            "findings_dropped": self.dropped,
            "head": self.history.head.hex() if self.history else None,
            "model": self.history.model.hex() if self.history else None,
            "marks": list(self.marks),
        }


def audit(facts: Facts, level: Level = "replay") -> AuditReport:
    """Audit everything up to ``level``; errors in the facts become findings, never exceptions.

    A record that cannot be parsed, or that contradicts itself so that the audit cannot go on, gives
    a failure `BundleInvalid` beside what was found before it.
    """
    book, reached, found = Book(), ["chain"], _Found()
    try:
        _climb(facts, level, book, reached, found)
    except (BundleInvalid, ArithmeticError, LookupError, TypeError, ValueError) as error:
        why = str(error) if isinstance(error, BundleInvalid) else repr(error)
        sentence = f"the record is damaged or contradicts itself: {why}"
        book.check(False, "record", sentence, error=BundleInvalid)
    return _report(facts, level, tuple(item for item in LEVELS if item in reached), book, found)


@dataclass(kw_only=True)
class _Found:
    """What was established before an audit had to stop."""

    chain: ChainLevel | None = None
    phases: dict[int, str] = field(default_factory=dict)


def _climb(facts: Facts, level: Level, book: Book, reached: list[str], found: _Found) -> None:
    chain = found.chain = audit_chain(facts, book)
    if chain.history is None or facts.objects is None or level == "chain":
        return
    book.level = "models"
    arithmetic = audit_models(chain.history, facts.objects, book, chain.charges.short)
    found.phases = {known.past.opening.round: known.phase for known in arithmetic if known.phase}
    reached.append("models")
    if level == "replay":
        book.level = "replay"
        if audit_replay(facts, arithmetic, book):
            reached.append("replay")


def broken(error: ThoracleError, level: Level) -> AuditReport:
    """Return the report of a run whose facts could not even be gathered."""
    book = Book()
    book.check(False, "facts", str(error), error=type(error))
    return AuditReport(asked=level, reached=(), findings=tuple(book.findings), passed={})


def _report(
    facts: Facts, asked: Level, reached: tuple[Level, ...], book: Book, found: _Found
) -> AuditReport:
    chain = found.chain
    history = chain.history if chain else None
    reached = tuple(level for level in reached if not _all_erased(history, level, book))
    _check_not_empty(history, reached, book)
    passed: dict[Level, dict[str, int]] = {}
    for (level, name), count in sorted(book.passed.items()):
        passed.setdefault(level, {})[name] = count
    return AuditReport(
        asked=asked,
        reached=reached,
        findings=tuple(sorted(set(book.findings), key=_order)),
        passed=passed,
        history=history,
        budgets=chain.charges.budgets if chain else (),
        credits=credit(history) if history else (),
        gas=_gas(chain) if chain else {},
        phases=found.phases,
        names=dict(facts.names),
        marks=(*facts.marks, *_own_marks(history)),
        blocks=len(chain.chain.headers) if chain else 0,
        transactions=len(chain.chain.mined) if chain else 0,
        dropped=book.dropped,
    )


def _own_marks(history: History | None) -> tuple[str, ...]:
    if history is None or history.rules.privacy_unit != Unit.NONE:
        return ()
    return (NO_PRIVACY,)


def _order(item: Finding) -> tuple[object, ...]:
    severity = ("failure", "unproven", "note").index(item.severity)
    # What never ran comes after what was wrong: the latter is usually why.
    return severity, item.check == "coverage", LEVELS.index(item.level), item


def _all_erased(history: History | None, level: Level, book: Book) -> bool:
    """Say whether a level has nothing left to check: all it needs was erased as declared."""
    if level == "chain" or history is None:
        return False
    final = {past.opening.round for past in history.rounds if past.final_model}
    return bool(final) and final <= {
        f.round for f in book.findings if f.check == ERASED and f.level in {"models", level}
    }


def _check_not_empty(history: History | None, reached: tuple[Level, ...], book: Book) -> None:
    """An audit that never ran a kind of check that its level promises did not pass it."""
    final = history and any(past.final_model for past in history.rounds)
    for level in reached:
        if level != "chain" and not final:
            continue  # without a final round there is no sum to have checked
        for name in _EXPECTED[level]:
            failed = any(f.level == level and f.check == name for f in book.findings)
            if not book.passed[level, name] and not failed:
                book.level = level
                book.check(
                    False,
                    "coverage",
                    f"the check '{name}' never ran: the level {level} is not established",
                    error=BundleInvalid,
                )


def credit(history: History) -> tuple[Credit, ...]:
    """Return each hospital's credit: effective weight over the final rounds it attested.

    Weights are what hospitals registered: the contract limits and records them, nobody has counted
    the examples. Declared, not verified.
    """
    weights: dict[str, tuple[int, int]] = {
        seat.hospital: (0, 0)
        for seat in sorted(history.members.seats.values(), key=lambda seat: seat.index)
    }
    for past in history.rounds:
        for who, weight in _credited(past).items():
            rounds, total = weights[who]
            weights[who] = rounds + 1, total + weight
    whole = sum(weight for _, weight in weights.values())
    return tuple(
        Credit(hospital=who, rounds=rounds, weight=weight, share=weight / whole if whole else 0.0)
        for who, (rounds, weight) in weights.items()
    )


def _credited(past: RoundHistory) -> dict[str, int]:
    if past.outcome not in (Outcome.SUM_VERIFIED, Outcome.QUORUM_ONLY):
        return {}
    return {
        past.commits[seat].hospital: past.commits[seat].weight for seat in past.seats(past.attested)
    }


def _gas(level: ChainLevel) -> dict[int, int]:
    """Return the gas of each round's transactions: from its opening to the next one's."""
    starts = [(e.block, e.args["round"]) for e in level.chain.events if e.name == "RoundOpened"]
    found: dict[int, int] = {}
    for item in level.chain.mined:
        number = max((n for block, n in starts if block <= item.block), default=0)
        found[number] = found.get(number, 0) + item.gas_used
    return found
