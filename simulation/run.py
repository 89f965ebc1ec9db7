"""Run a prepared federation: a managed chain, Flower's simulation engine, and what is left behind.

``simulate`` is the whole of it; what it returns is read back from the run folder.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flwr.clientapp import ClientApp

from ledger.bundle import export_bundle
from ledger.chain_rpc import connect
from ledger.errors import HospitalFailed, ThoracleError
from ledger.node import ManagedAnvil
from ledger.node_process import find_anvil
from server.home import CoordinatorSpec
from server.results import RoundResult
from simulation.central import CentralScores
from simulation.deployment import deploy
from simulation.flower import EXCHANGE_SLACK, go_offline, server_app
from simulation.hospital_app import client_app
from simulation.interrupt import stopped_by_interrupt
from simulation.planning import round_plan
from simulation.plots import plot_rounds
from simulation.prepare import build_folder
from simulation.progress import Steps
from simulation.run_record import read_draft
from simulation.settings import Settings

ANVIL = "anvil"


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What a simulated run came to.

    Attributes:
        folder: where everything lies.
        rounds: each round's result, in order.
        central: round to macro AUC on the central test set, where there is one.
    """

    folder: Path
    rounds: tuple[RoundResult, ...]
    central: dict[int, float | None] = field(default_factory=dict)


def simulate(
    settings: Settings,
    out: Path,
    *,
    steps: Steps | None = None,
    on_round: Callable[[RoundResult, float | None], None] | None = None,
) -> RunReport:
    """Prepare, run and close a federation.

    Args:
        settings: everything about it.
        out: the run folder; new or empty.
        steps: says what is being done.
        on_round: told each round's result and its central macro AUC (None without a test set).

    Raises:
        InputError: the settings, data or folder cannot be used; nothing was changed.
        LedgerUnavailable: the chain went away; the run stopped rather than go on unaudited.
        ThoracleError: whatever ended the run.
    """
    say = steps or Steps(quiet=True)
    go_offline()
    with prepared(settings, out, say) as scorer, stopped_by_interrupt(out):
        results: list[RoundResult] = []

        def heard(result: RoundResult) -> None:
            results.append(result)
            score = scorer.score(result)
            if on_round is not None:
                on_round(result, score)

        say.say("Starting Flower's simulation engine")
        run_flower(settings, out, heard)
    plot_rounds(out)
    return RunReport(folder=out, rounds=tuple(results), central=scorer.found)


@contextmanager
def prepared(settings: Settings, out: Path, steps: Steps) -> Iterator[CentralScores]:
    """Build a run folder and its chain; at the end of the block, export the chain and stop it.

    Raises:
        InputError: settings, data, folder or the chain's program cannot be used; nothing changed.
        LedgerUnavailable: the chain does not start.
    """
    if settings.chain == ANVIL:
        find_anvil()  # nothing is made where the chain could not start
    draft = build_folder(settings, out, steps)
    with _chain(settings, draft.folder) as rpc:
        ledger = deploy(settings, draft, rpc, steps)
        CoordinatorSpec(
            rpc=rpc,
            anchors=ledger.anchors,
            plan=round_plan(settings, draft.learner, draft.manifest, draft.findings),
            manifest=draft.manifest,
        ).write(draft.folder)
        yield CentralScores(draft)
        export_bundle(ledger.web3, ledger.anchors, draft.folder)


def resume(
    folder: Path,
    *,
    steps: Steps | None = None,
    on_round: Callable[[RoundResult, float | None], None] | None = None,
) -> RunReport:
    """Go on with a run that was stopped or killed, from exactly where it stopped.

    The chain's journal restores what its node lost, the live round is taken up in its own phase,
    finished updates are sent again rather than trained again. A run that is complete is only
    exported anew. The report holds the rounds that ended now.

    Raises:
        ConfigError: the folder is no run, or its preparation never finished.
        RunBusy: another process is working on it.
        LedgerUnavailable: the chain cannot be reached.
    """
    say = steps or Steps(quiet=True)
    go_offline()
    settings, draft = read_draft(folder)
    spec = CoordinatorSpec.read(folder)
    results: list[RoundResult] = []
    with stopped_by_interrupt(folder), _chain(settings, folder, port=urlsplit(spec.rpc).port or 0):
        scorer = CentralScores(draft)

        def heard(result: RoundResult) -> None:
            results.append(result)
            score = scorer.score(result)
            if on_round is not None:
                on_round(result, score)

        say.say("Taking up the run where it stopped")
        scorer.score_missed()
        run_flower(settings, folder, heard)
        web3 = connect(spec.rpc)
        export_bundle(web3, spec.anchors, folder)
    plot_rounds(folder)
    return RunReport(folder=folder, rounds=tuple(results), central=scorer.found)


@contextmanager
def _chain(settings: Settings, folder: Path, port: int = 0) -> Iterator[str]:
    """Yield the address of a node: a managed one for the run, or the external one."""
    if settings.chain != ANVIL:
        yield settings.chain
        return
    with ManagedAnvil(folder / "chain", port=port) as node:
        yield node.url


def run_flower(
    settings: Settings,
    folder: Path,
    on_round: Callable[[RoundResult], None],
    *,
    hospitals: ClientApp | None = None,
) -> None:
    """Run what is left of a run's rounds in Flower's simulation engine.

    Args:
        settings: of the run.
        folder: the prepared run folder, its chain running.
        on_round: told each round's result.
        hospitals: the hospitals' app; by default the real one.

    Raises:
        ThoracleError: whatever ended the run.
    """
    from flwr.simulation import run_simulation

    go_offline()
    cpus = settings.cpus or os.cpu_count() or 1
    log = folder / "logs" / "flower.log"
    log.parent.mkdir(exist_ok=True)
    timeout = float(settings.hospital_timeout)
    # Hospitals that find no free worker wait in line, so an exchange may take several turns.
    turns = -(-settings.hospitals // cpus)
    with _logged_to(log):
        try:
            run_simulation(
                server_app=server_app(folder, on_round, turns * timeout + EXCHANGE_SLACK),
                client_app=hospitals or client_app(folder.resolve(), timeout),
                num_supernodes=settings.hospitals,
                backend_config={
                    "init_args": {
                        "num_cpus": cpus,
                        "include_dashboard": False,
                        "logging_level": logging.ERROR,
                        "log_to_driver": False,
                    },
                    "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                },
            )
        except ThoracleError:
            raise
        except Exception as error:
            cause = _cause(error)
            if isinstance(cause, ThoracleError):
                raise cause from None
            raise HospitalFailed(
                f"Flower's simulation engine ended with {type(cause).__name__}; see {log}"
            ) from error


def _cause(error: BaseException) -> BaseException:
    """Return the first deliberate error in a chain of causes, or the innermost error."""
    seen: BaseException = error
    while True:
        if isinstance(seen, ThoracleError):
            return seen
        inner = seen.__cause__ or seen.__context__
        if inner is None:
            return seen
        seen = inner


@contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    """Send Flower's own log to a file for the time of a run: people watch our table instead."""
    flower = logging.getLogger("flwr")
    ours = logging.getLogger("thoracle")
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before, spread = flower.handlers[:], flower.propagate
    flower.handlers, flower.propagate = [handler], False
    ours.addHandler(handler)
    ours.propagate = False
    try:
        yield
    finally:
        flower.handlers, flower.propagate = before, spread
        ours.removeHandler(handler)
        handler.close()
