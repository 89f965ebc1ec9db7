"""The ``thoracle chain`` commands: look at a run's chain, re-execute it, run a node by itself.

A finished run is looked at on a copy: reading never touches what an auditor will compare.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from ledger.anchors import Anchors
from ledger.canonical import parse_json
from ledger.chain import Ledger
from ledger.chain_rpc import connect
from ledger.chain_view import event_record, show_record
from ledger.console import JsonFlag, emit_json, out, progress
from ledger.errors import CodecError, ConfigError, HeadMismatch
from ledger.files import read_bounded
from ledger.history import export_history
from ledger.node import DEFAULT_CHAIN_ID, ManagedAnvil
from ledger.witness import compare, read_witness

app = typer.Typer(
    name="chain",
    help="The ledger: show a run's rounds and events, compare witnesses, run a node.",
    no_args_is_help=True,
)

MAX_RUN = 1 << 26
COPIED = ("node.json", "anvil-state.json", "transactions.jsonl")

RunArgument = Annotated[Path, typer.Argument(help="Run folder, or a folder made by `chain up`.")]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="Ask this live node instead of the run's own chain.")
]
AnchorsOption = Annotated[
    Path | None,
    typer.Option("--anchors", help="Trust anchors (JSON) instead of those in run.json."),
]


@app.callback()
def _chain() -> None:
    """The ledger: show a run's rounds and events, compare witnesses, run a node."""


@app.command()
def show(
    run: RunArgument,
    url: UrlOption = None,
    anchors: AnchorsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show rounds, members with their budgets, and the head of a run's ledger.

    Example: thoracle chain show runs/first
    """
    with open_run(run, url=url, anchors=anchors) as ledger:
        record = show_record(ledger)
    if as_json:
        emit_json(record)
    else:
        _print_show(record)


@app.command()
def events(
    run: RunArgument,
    url: UrlOption = None,
    anchors: AnchorsOption = None,
    from_block: Annotated[int, typer.Option(min=0, help="First block.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """List every event of a run's contract, in the chain's order.

    Example: thoracle chain events runs/first --from-block 10
    """
    with open_run(run, url=url, anchors=anchors) as ledger:
        records = [event_record(event) for event in ledger.events(from_block)]
    if as_json:
        emit_json(records)
        return
    table = Table("block", "event", "arguments")
    for record in records:
        shown = ", ".join(f"{key} {_short(value)}" for key, value in record["args"].items())
        table.add_row(str(record["block"]), record["name"], escape(shown))
    out.print(table)


@app.command()
def witness(
    first: Annotated[Path, typer.Argument(help="One hospital's witness file.")],
    second: Annotated[Path, typer.Argument(help="Another hospital's.")],
    as_json: JsonFlag = False,
) -> None:
    """Compare two hospitals' witness files: were both shown the same history?

    Exits 0 only if every record that both have seen has the same head.

    Example: thoracle chain witness a/witness.json b/witness.json
    """
    found = compare(read_witness(first), read_witness(second))
    heads = None if found.heads is None else [head.hex() for head in found.heads]
    if as_json:
        emit_json(
            {"common": found.common, "agreed": found.agreed, "split": found.split, "heads": heads}
        )
        if heads is not None:
            raise typer.Exit(1)
        return
    if found.heads is not None:
        ours, theirs = found.heads
        raise HeadMismatch(
            f"the histories split at record {found.split}: {first} saw 0x{ours.hex()}, "
            f"{second} saw 0x{theirs.hex()}",
            expected=ours,
            given=theirs,
        )
    out.print(f"One history: the heads agree on all {found.common} records that both have seen.")


@app.command(name="reexecute")
def reexecute_command(
    run: RunArgument,
    url: UrlOption = None,
    anchors: AnchorsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run every signed transaction again in an EVM of your own, and compare logs, storage, head.

    Example: thoracle chain reexecute runs/first
    """
    from ledger.reexecute import reexecute  # py-evm takes its time to import

    with open_run(run, url=url, anchors=anchors) as ledger, progress() as bar:
        task = bar.add_task("collecting", total=None)
        history = export_history(
            ledger, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
        task = bar.add_task("re-executing", total=None)
        found = reexecute(
            history, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    record = {
        "transactions": found.transactions,
        "sequence": found.sequence,
        "head": found.head.hex(),
        "storage_root": found.storage_root.hex(),
        "storage_compared": history["storage_root"] is not None,
        "gas_used": found.gas_used,
        "gas_told": found.gas_told,
        "milliseconds_per_transaction": round(1000 * found.seconds / found.transactions, 3),
        "differences": [str(difference) for difference in found.differences],
    }
    if as_json:
        emit_json(record)
        if found.differences:
            raise typer.Exit(1)
        return
    found.require()
    out.print(
        f"{found.transactions} transactions re-executed "
        f"({record['milliseconds_per_transaction']} ms each): every log"
        f"{', the storage' if record['storage_compared'] else ''} and the head at record "
        f"{found.sequence} are the chain's.\nhead 0x{found.head.hex()}"
    )


@app.command()
def up(
    folder: Annotated[Path, typer.Argument(help="Where the chain lives; continued if it exists.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")] = 8545,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    chain_id: Annotated[int, typer.Option(min=1, help="EIP-155 chain id.")] = DEFAULT_CHAIN_ID,
) -> None:
    """Run a chain node by itself, behind its allow-list, until interrupted.

    Example: thoracle chain up chains/dev --port 8545
    """
    stop = threading.Event()
    with ManagedAnvil(folder, chain_id=chain_id, host=host, port=port) as node:
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        out.print(
            f"Node at {node.url}, chain {chain_id}, in {escape(str(folder))}. Ctrl-C ends it."
        )
        while not stop.wait(1.0):
            if not node.alive():
                out.print("anvil ended; starting it again from its journal.")
                node.restart()


@contextmanager
def open_run(run: Path, *, url: str | None = None, anchors: Path | None = None) -> Iterator[Ledger]:
    """Yield the ledger of a run: of a live node, or of a node on a copy of the run's chain.

    Raises:
        ConfigError: the folder holds no chain or no anchors.
        WrongLedger: the chain is not that of the anchors.
    """
    known = _anchors(run, anchors)
    if url is not None:
        yield Ledger.attach(connect(url), known)
        return
    source = run / "chain" if (run / "chain").is_dir() else run
    if not (source / "node.json").exists():
        raise ConfigError(f"{run} holds no chain; give --url of a live node")
    with tempfile.TemporaryDirectory(prefix="thoracle-") as scratch:
        for name in COPIED:
            if (source / name).exists():
                shutil.copyfile(source / name, Path(scratch) / name)
        with ManagedAnvil(Path(scratch), chain_id=known.chain_id) as node:
            yield Ledger.attach(connect(node.url), known)


def _anchors(run: Path, anchors: Path | None) -> Anchors:
    path = anchors if anchors is not None else run / "run.json"
    if not path.exists():
        raise ConfigError(f"there is no {path}; give --anchors")
    try:
        value = parse_json(read_bounded(path, MAX_RUN), MAX_RUN)
    except CodecError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if isinstance(value, dict) and isinstance(value.get("anchors"), dict):
        value = value["anchors"]
    return Anchors.from_record(value)


def _print_show(record: dict[str, Any]) -> None:
    # Narrow terminals: figures stay whole, a model's digest is cut, an address is folded.
    rounds = Table(
        "round",
        Column("outcome", no_wrap=True, min_width=12),
        *(Column(name, min_width=len(name)) for name in ("commits", "accepted")),
        "refused",
        *(Column(name, min_width=len(name)) for name in ("attested", "weight")),
        Column("model", no_wrap=True),
        padding=(0, 0),
    )
    for item in record["rounds"]:
        refused = ", ".join(f"{seat}: {reason}" for seat, reason in item["reasons"].items())
        rounds.add_row(
            str(item["round"]),
            item["outcome"].replace("_", " "),
            str(item["commits"]),
            str(item["accepted"]),
            escape(refused) or "-",
            str(item["attested"]),
            str(item["accepted_weight"]),
            _short(item["model"] or "-"),
        )
    private = record["privacy_unit"] != "none"  # without privacy a cap is only a placeholder
    per = f" per {record['privacy_unit']}" if private else ""
    members = Table(
        "seat",
        Column("hospital", overflow="fold"),
        "weight",
        f"epsilon spent{per}",
        "epsilon cap",
        "active",
    )
    for item in record["members"]:
        members.add_row(
            str(item["seat"]),
            item["address"],
            str(item["weight"]),
            f"{item['epsilon_spent']:g}" if private else "-",
            f"{item['epsilon_cap']:g}" if private else "-",
            "yes" if item["active"] else "no",
        )
    out.print(rounds, members)
    out.print(
        f"record {record['sequence']}, head {record['head']}\n"
        f"chain {record['chain_id']}, contract {record['contract']}, "
        f"coordinator {record['coordinator']}",
        soft_wrap=True,
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 46 else f"{text[:14]}…{text[-6:]}"
