"""Stages that an honest federation of four hospitals is brought to before something goes wrong."""

from __future__ import annotations

from collections.abc import Callable

from ledger.statement import pack_probes
from tests.contracts.oracle_members import REMOVE
from tests.contracts.pair import COORDINATOR, HOSPITALS, NORM_BOUND, STRANGER, WINDOW, Pair

A, B, C, D, NEWCOMER = HOSPITALS[:5]
FOUR = [A, B, C, D]
ZERO = "0x" + "00" * 20
Stage = Callable[[Pair], None]
Call = Callable[[Pair], str | None]


def idle(_pair: Pair) -> None:
    """Four registered hospitals, no round yet."""


def opened(pair: Pair) -> None:
    """A round is open."""
    pair.open()


def all_committed(pair: Pair) -> None:
    """Everyone has committed; the window is still open."""
    pair.open()
    for name in FOUR:
        assert pair.commit(name) is None


def window_closed(pair: Pair) -> None:
    """Three of four have committed and the commit window has closed."""
    pair.open()
    for name in FOUR[:3]:
        assert pair.commit(name) is None
    pair.time = pair.oracle.round.commit_deadline


def proposed(pair: Pair) -> None:
    """Everyone committed; D is refused."""
    all_committed(pair)
    assert pair.propose(refused=0b1000) is None


def answers_over(pair: Pair) -> None:
    """A alone attested, and the attest window has closed."""
    proposed(pair)
    assert pair.attest(A) is None
    pair.time = pair.oracle.round.attest_deadline


def settled(pair: Pair) -> None:
    """The first round is final."""
    pair.run_round(FOUR)


def d_removed_and_reopened(pair: Pair) -> None:
    """D was voted out, and the next round is open."""
    vote_through(pair, REMOVE, D)
    pair.open()


def vote_through(pair: Pair, kind: int, subject: str) -> None:
    """Carry a ballot with three of four votes."""
    for name in FOUR[:3]:
        assert pair.do(name, "vote", kind, subject) is None
    assert pair.do(STRANGER, "enact", kind, subject) is None


def spend(epsilon: int) -> tuple[object, ...]:
    return (epsilon, 10**6, 10**7, 100, 10**7, bytes(32))


def open_with(pair: Pair, **changes: object) -> str | None:
    fields = {
        "head": pair.oracle.head,
        "base": pair.oracle.model,
        "config": bytes(32),
        "key": bytes(32),
        "norm_bound": NORM_BOUND,
        "commit_window": WINDOW,
        "attest_window": WINDOW,
    } | changes
    return pair.do(str(fields.pop("sender", COORDINATOR)), "openRound", *fields.values())


def probes_of(*firsts: int) -> bytes:
    return pack_probes([(first, *[0] * 15) for first in firsts])


def finish(pair: Pair) -> None:
    """End the live round whichever way is open, then carry one more honest round."""
    current = pair.oracle.round
    if current.phase:
        pair.time = max(pair.time, current.commit_deadline + WINDOW, current.attest_deadline)
        assert pair.do(STRANGER, "abort", current.number) is None
    active = [n for n in FOUR if pair.oracle.hospitals[n].active_until > current.number + 1]
    pair.run_round(active)
    pair.check_state()
