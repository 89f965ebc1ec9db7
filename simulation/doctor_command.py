"""``thoracle doctor``: says what is wrong with a run or a hospital's home, and what to do."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from ledger.console import JsonFlag, emit_json, out
from ledger.errors import ConfigError, ThoracleError

if TYPE_CHECKING:
    from ledger.doctor import Symptom

_METRICS = "metrics.csv"
_SHOWN = 8


def doctor(
    run: Annotated[Path, typer.Argument(help="Run folder, or a hospital's home.")],
    as_json: JsonFlag = False,
) -> None:
    """Say what is wrong with a run, and what to do; changes nothing.

    Looks at disk, locks, journals, stored models and updates, keys, clocks, and whether the chain
    is older than what anybody has seen. Exit 0 where nothing stands in the way of going on.

    Example: thoracle doctor runs/first
    """
    found = diagnose(run)
    faults = [symptom for symptom in found if symptom.severity == "fault"]
    if as_json:
        emit_json({"well": not faults, "symptoms": [asdict(symptom) for symptom in found]})
    else:
        _print(found)
    if faults:
        raise typer.Exit(1)


def diagnose(run: Path, *, now: float | None = None) -> list[Symptom]:
    """Examine a run folder with all hospitals in it, or one hospital's home.

    Args:
        run: the folder.
        now: Unix seconds; default: this machine's clock.

    Raises:
        ConfigError: it is neither.
    """
    from client.doctor import diagnose_home
    from ledger.doctor import examine_history
    from server.doctor import diagnose_run

    if (run / "hospital.json").is_file():
        return list(diagnose_home(run))
    if not (run / "run.json").is_file():
        raise ConfigError(f"{run} is neither a run folder nor a hospital's home")
    found = list(diagnose_run(run))
    homes = [path for path in sorted((run / "hospitals").glob("*")) if path.is_dir()]
    for home in homes:
        place = home.relative_to(run).as_posix()
        found += [replace(s, where=f"{place}/{s.where}") for s in diagnose_home(home)]
    parties = {"coordinator": run / "keys"} | {f"hospital {home.name}": home for home in homes}
    witnesses = {"coordinator": run} | {f"hospital {home.name}": home for home in homes}
    found += examine_history(
        run / "chain" / "transactions.jsonl",
        {name: folder / "transactions.jsonl" for name, folder in parties.items()},
        {name: folder / "witness.json" for name, folder in witnesses.items()},
        now=time.time() if now is None else now,
    )
    return [*found, *_rounds(run), *_node(run)]


def _rounds(run: Path) -> Iterator[Symptom]:
    """Find rounds that left the base standing: nothing is broken, and little is learnt."""
    from ledger.doctor import Symptom
    from ledger.statement import Outcome
    from simulation.figures import table_rows

    try:
        rows = table_rows(run / _METRICS)
        lost = [row["round"] for row in rows if row["outcome"] != Outcome.SUM_VERIFIED.name]
    except (ThoracleError, ValueError, KeyError, csv.Error) as error:
        yield Symptom(
            error="DataError",
            where=_METRICS,
            sentence=f"the table of rounds cannot be read: {error}",
            remedy="look into it: figures are told from it; the ledger does not depend on it",
            severity="note",
        )
        return
    if lost:
        shown = ", ".join(lost[:_SHOWN]) + (" and others" if len(lost) > _SHOWN else "")
        yield Symptom(
            error="",
            where=_METRICS,
            sentence=f"{len(lost)} of {len(rows)} rounds were not verified: {shown}",
            remedy="look why: hospitals/*/hospital.log say what hospitals refused, logs/ the rest",
            severity="note",
        )


def _node(run: Path) -> Iterator[Symptom]:
    """Find a chain that cannot be started, or an external one that does not answer."""
    from ledger.chain_rpc import Patience, Transport, connect
    from ledger.doctor import of_error
    from ledger.node_process import find_anvil
    from server.home import CoordinatorSpec

    try:
        spec = CoordinatorSpec.read(run)
    except ThoracleError:
        return  # told above
    try:
        if (run / "chain" / "node.json").is_file():
            find_anvil()
        else:
            web3 = connect(spec.rpc, timeout=3.0)
            Transport(web3, Patience(outage=3.0)).read(
                "for its chain id", lambda: web3.eth.chain_id
            )
    except ConfigError as error:
        yield of_error(error, "chain", "run make setup, which installs the chain's node")
    except ThoracleError as error:
        yield of_error(error, "chain", "start the node, or wait for it; nothing goes on without")


def _print(found: list[Symptom]) -> None:
    for symptom in found:
        mark = "[bold red]fault[/]" if symptom.severity == "fault" else "note "
        name = f"{symptom.error}: " if symptom.error else ""
        out.print(f"{mark}  {escape(symptom.where)}: {escape(name + symptom.sentence)}")
        out.print(f"       do: {escape(symptom.remedy)}")
    faults = sum(symptom.severity == "fault" for symptom in found)
    out.print(f"{faults} faults, {len(found) - faults} notes" if found else "Nothing is wrong.")
