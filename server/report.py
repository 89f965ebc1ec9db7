"""Closes the books of a round: its result, once, and its line of ``metrics.csv``."""

from __future__ import annotations

import time
from collections.abc import Callable

from ledger.chain import Ledger
from ledger.errors import WrongPhase
from ledger.statement import Phase
from server.inbox import Inbox
from server.results import RoundResult, read_result
from server.store import RunStore

ANSWER = "answer/"
"""Journal steps that hold the numbers of an attestation, by hospital."""


def report_round(ledger: Ledger, store: RunStore, inbox: Inbox, number: int) -> RoundResult:
    """Return the result of a closed round; asking again gives the same.

    Raises:
        WrongPhase: the round is not over.
        LedgerUnavailable: the node cannot be reached.
    """
    closing = ledger.closing(number)
    if closing is None:
        raise WrongPhase(f"round {number} is not over", phase=ledger.round().phase)
    done = store.journal.read(number, "closed")
    if done is None:
        done = {"ended": time.time()}
        store.journal.record(number, "closed", done)
    started = (store.journal.read(number, "opening") or done).get("started", done["ended"])
    result = read_result(
        ledger,
        store,
        closing,
        failed=inbox.failures(),
        answers=_answers(store, number),
        traffic=(_sent_bytes(ledger, store, number), inbox.received_bytes()),
        seconds=float(str(done["ended"])) - float(str(started)),
    )
    store.write_metrics(result.row())
    return result


def report_missed(
    ledger: Ledger, store: RunStore, inbox_of: Callable[[int], Inbox]
) -> tuple[RoundResult, ...]:
    """Close the books of every round that ended on the chain before its line was written."""
    state = ledger.round()
    ended = state.number if state.phase is Phase.IDLE else state.number - 1
    told = {row["round"] for row in store.read_metrics()}
    missed = [number for number in range(1, ended + 1) if str(number) not in told]
    return tuple(report_round(ledger, store, inbox_of(number), number) for number in missed)


def _answers(store: RunStore, number: int) -> dict[str, dict[str, float]]:
    found = store.journal.matching(number, ANSWER)
    return {
        step.removeprefix(ANSWER): value["metrics"]
        for step, value in found.items()
        if isinstance(value["metrics"], dict)
    }


def _sent_bytes(ledger: Ledger, store: RunStore, number: int) -> int:
    """Return the bytes of model and sum that went to the roster (other fields are negligible)."""
    opening, proposal = ledger.opening(number), ledger.proposal(number)
    paths = [store.models.path(opening.base_model)]
    if proposal is not None:
        paths.append(store.sums.path(proposal.sum_digest))
    sizes = sum(path.stat().st_size for path in paths if path.is_file())
    return opening.roster_count * sizes
