"""``thoracle audit erase``: end the life of what a run need no longer keep."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ledger.console import JsonFlag, emit_json, out
from ledger.errors import BundleInvalid, ConfigError


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
    from ledger.findings import Book
    from ledger.run_facts import open_source, read_facts
    from server.retention import destroy_keys, plan_erasure
    from server.retention import erase as carry_out
    from server.store import RunStore

    if not (run / "run.json").is_file():
        raise ConfigError(f"{run} is not a run folder")
    book = Book()
    history = audit_chain(read_facts(open_source(run)), book).history
    if history is None or any(item.severity == "failure" for item in book.findings):
        raise BundleInvalid("the run's chain does not hold: audit it before erasing anything")
    with RunStore(run) as store:
        plan = plan_erasure(store, history, before)
        if not dry:
            carry_out(store, plan)
        if keys and not dry:
            rounds = max((past.opening.round for past in history.rounds), default=0)
            reason = f"destroyed after round {rounds}, the audit window being over"
            plan = replace(plan, keys=destroy_keys(run, reason=reason, time=int(time.time())))
    record = {
        "rounds": list(plan.rounds),
        "evidence": len(plan.evidence),
        "sums": len(plan.sums),
        "models": len(plan.models),
        "keys": list(plan.keys),
        "bytes": plan.bytes,
        "done": not dry,
    }
    if as_json:
        emit_json(record)
        return
    verb = "Would erase" if dry else "Erased"
    out.print(
        f"{verb} {len(plan.evidence)} sealed updates, {len(plan.sums)} sums, {len(plan.models)}"
        f" models and {len(plan.keys)} keys of {len(plan.rounds)} rounds: {plan.bytes:,} bytes"
    )
