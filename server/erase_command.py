"""``thoracle audit erase``: end the life of what a run need no longer keep."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.console import JsonFlag, emit_json, out
from ledger.errors import BundleInvalid, ConfigError

if TYPE_CHECKING:
    from ledger.replica import History
    from server.retention import Erasure


def register(audit: typer.Typer) -> None:
    """Add the command to the ``audit`` family, once."""
    if all(known.callback is not erase for known in audit.registered_commands):
        audit.command()(erase)


def erase(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    before: Annotated[
        int | None,
        typer.Option("--before", help="Only rounds below this; default: all whose life is over."),
    ] = None,
    keys: Annotated[
        bool,
        typer.Option("--keys", help="After the last round: destroy the sealing keys for ever."),
    ] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Erase sealed updates, sums and old models whose declared life is over.

    What each round declared stands on the chain (retain_evidence, retain_models when the run was
    made), so an audit tells this from a deletion: 'erased as declared', not a failure.

    Example: thoracle audit erase runs/first --before 10
    """
    from ledger.audit_chain import audit_chain
    from ledger.audit_commands import collected
    from ledger.bundle import FILE
    from ledger.findings import Book
    from ledger.run_facts import open_source, read_facts
    from server.retention import destroy_keys, key_files, plan_erasure
    from server.retention import erase as carry_out
    from server.store import RunStore

    if not (run / "run.json").is_file():
        raise ConfigError(f"{run} is not a run folder")
    book, exported = Book(), (run / FILE).is_file()
    record = None if exported else collected(run)
    history = audit_chain(read_facts(open_source(run), record=record), book).history
    if history is None or any(item.severity == "failure" for item in book.findings):
        raise BundleInvalid("the run's chain does not hold: audit it before erasing anything")
    ended = _all_ended(run, history) if keys else 0  # refuses before anything is gone
    with RunStore(run) as store:
        plan = plan_erasure(store, history, before)
        if keys:
            plan = replace(plan, keys=tuple(path.name for path in key_files(run)))
        if not dry:
            carry_out(store, plan)
        if keys and not dry:
            reason = f"destroyed after round {ended}, the audit window being over"
            destroy_keys(run, reason=reason, time=int(time.time()))
    _tell(plan, done=not dry, as_json=as_json)


def _all_ended(run: Path, history: History) -> int:
    """Return the number of the last planned round.

    Raises:
        ConfigError: it has not ended: the keys are still needed.
    """
    from ledger.statement import Outcome
    from server.home import CoordinatorSpec

    planned = CoordinatorSpec.read(run).plan.rounds
    ended = sum(past.outcome != Outcome.NONE for past in history.rounds)
    if ended < planned:
        raise ConfigError(f"{ended} of {planned} rounds have ended: the keys are still needed")
    return ended


def _tell(plan: Erasure, *, done: bool, as_json: bool) -> None:
    record = {
        "rounds": list(plan.rounds),
        "evidence": len(plan.evidence),
        "sums": len(plan.sums),
        "models": len(plan.models),
        "keys": list(plan.keys),
        "bytes": plan.bytes,
        "done": done,
    }
    if as_json:
        emit_json(record)
        return
    verb = "Erased" if done else "Would erase"
    out.print(
        f"{verb} {len(plan.evidence)} sealed updates, {len(plan.sums)} sums, {len(plan.models)}"
        f" models and {len(plan.keys)} keys of {len(plan.rounds)} rounds: {plan.bytes:,} bytes"
    )
