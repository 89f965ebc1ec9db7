"""The ``thoracle audit`` commands: verify a run, replay it with a key, bundle it, draw it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ledger.console import JsonFlag, emit_json, err, out, track
from ledger.errors import BundleInvalid, ConfigError, OutputError, ThoracleError
from ledger.facts import LEVELS, Level

if TYPE_CHECKING:
    from ledger.audit import AuditReport
    from ledger.facts import ChainRecord, HeldKey

# The audit's own modules are imported inside the commands: py-evm and the accountant take seconds.

T = TypeVar("T")
app = typer.Typer(
    name="audit",
    help="Audit a run: does its history hold, and is each model the sum of what was committed?",
    no_args_is_help=True,
)

RunArgument = Annotated[Path, typer.Argument(help="Run folder, or an offline bundle of one.")]
AnchorsOption = Annotated[
    Path | None,
    typer.Option(
        "--anchors", help="Trust anchors (JSON) from outside the run; without: origin unproven."
    ),
]
LevelOption = Annotated[
    str | None,
    typer.Option(
        "--level", help="chain, models or replay: fail where less is reached. Default: the deepest."
    ),
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", help="Also write the report as one HTML page.")
]


@app.callback()
def _audit() -> None:
    """Audit a run: does its history hold, and is each model the sum of what was committed?"""


@app.command()
def verify(
    run: RunArgument,
    as_json: JsonFlag = False,
    anchors: AnchorsOption = None,
    level: LevelOption = None,
    html: HtmlOption = None,
) -> None:
    """Check everything that can be checked; exit 0 only if all of it holds.

    Opens the sealed evidence too where the run folder holds the coordinator's key (a simulation's
    does); otherwise says which level was reached.

    Example: thoracle audit verify runs/first --anchors anchors.json --html audit.html
    """
    if level is not None and level not in LEVELS:
        raise ConfigError(f"--level is one of {', '.join(LEVELS)}, not {level!r}")
    from ledger.run_facts import held_keys

    asked = level or "replay"
    keys, erased = held_keys(run) if asked == "replay" else ((), {})
    report = _audited(run, anchors, asked, keys, erased)
    if level is not None and level not in report.reached and report.clean:
        raise ConfigError(
            f"the level {level} was not reached: {run} lacks what it needs (for a replay, the key"
            " that the evidence opens to)"
        )
    _finish(report, as_json=as_json, html=html)


@app.command()
def replay(
    run: RunArgument,
    key: Annotated[Path, typer.Option("--key", help="Sealing key file the evidence opens to.")],
    password_file: Annotated[
        Path | None,
        typer.Option(help="Its password; default: the file 'password' beside the key."),
    ] = None,
    as_json: JsonFlag = False,
    anchors: AnchorsOption = None,
    html: HtmlOption = None,
) -> None:
    """Open the sealed evidence with a key; recompute every decision, probe and sum, bit for bit.

    Names any hospital whose probes were not of its committed update. The environment variable
    THORACLE_KEY_PASSWORD stands in for a password file.

    Example: thoracle audit replay runs/first --key auditor/seal-1.json
    """
    from ledger.run_facts import read_key

    beside = password_file or key.with_name("password")
    by_file = password_file is not None or beside.is_file()
    found = read_key(
        key,
        password_file=beside if by_file else None,
        password_env=None if by_file else "THORACLE_KEY_PASSWORD",
    )
    report = _audited(run, anchors, "replay", (found,), {})
    if "replay" not in report.reached and report.clean:
        raise ConfigError(f"{key} opens nothing in this run: the replay did not take place")
    _finish(report, as_json=as_json, html=html)


@app.command()
def bundle(
    run: RunArgument,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, e.g. run.zip.")],
    as_json: JsonFlag = False,
) -> None:
    """Put all that an audit needs into one offline file (no keys, nothing private).

    Example: thoracle audit bundle runs/first first.zip, and elsewhere: thoracle audit verify
    first.zip --anchors anchors.json
    """
    from ledger.archive import write_archive
    from ledger.bundle import FILE, encode_bundle
    from ledger.run_facts import open_source, read_anchors, read_facts

    if not run.is_dir():
        raise ConfigError(f"{run} is not a run folder")
    extra: dict[str, bytes] = {}
    if (run / FILE).is_file():
        read_facts(open_source(run))  # a damaged bundle is not handed on
    else:
        claimed = read_anchors(run / "run.json")
        extra[FILE] = encode_bundle(collected(run), claimed)
    files = write_archive(run, output, extra=extra, track=_Shown("Writing files"))
    size = output.stat().st_size
    if as_json:
        emit_json({"file": str(output), "files": files, "bytes": size})
    else:
        out.print(f"{files} files, {size:,} bytes: {output}")


@app.command(name="report")
def report_command(
    run: RunArgument,
    html: Annotated[
        Path | None, typer.Option("--html", help="Where to write it; default: RUN/audit.html.")
    ] = None,
    anchors: AnchorsOption = None,
) -> None:
    """Audit a run and draw it: rounds, budgets, credit, attestations and findings on one page.

    Example: thoracle audit report runs/first
    """
    from ledger.run_facts import held_keys

    target = html or (run / "audit.html" if run.is_dir() else run.with_suffix(".audit.html"))
    keys, erased = held_keys(run)
    report = _audited(run, anchors, "replay", keys, erased)
    _write_html(report, target)
    out.print(f"{target}\n{report.verdict}", markup=False)
    if not report.clean:
        raise typer.Exit(1)


# ---- shared ----


class _Shown:
    """Wraps an iteration to show its progress on standard error."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __call__(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items while showing progress."""
        known = list(items)
        return track(known, self._what, total=len(known))


@contextmanager
def _working(what: str) -> Iterator[None]:
    if err.is_terminal:
        with err.status(what):
            yield
    else:
        yield


def _audited(
    run: Path,
    anchors: Path | None,
    level: Level,
    keys: tuple[HeldKey, ...],
    erased: dict[str, str],
) -> AuditReport:
    from ledger.audit import audit, broken
    from ledger.bundle import FILE
    from ledger.run_facts import open_source, read_anchors, read_facts

    trusted = read_anchors(anchors) if anchors else None
    try:
        source = open_source(run)
        record = None
        if run.is_dir() and not (run / FILE).is_file() and (run / "run.json").is_file():
            record = collected(run)
        with _working("Auditing: hashes, signatures, re-execution, sums, openings"):
            facts = read_facts(source, record=record, trusted=trusted, keys=keys, erased=erased)
            report = audit(facts, level)
        source.close()
    except ConfigError:
        raise
    except ThoracleError as error:
        return broken(error, level)
    return report


def collected(run: Path) -> ChainRecord:
    """Collect the chain of a run that has no bundle, from a copy of its node's files."""
    from ledger.chain_commands import open_run
    from ledger.collect import collect_rpc

    if not (run / "chain" / "node.json").is_file():
        raise BundleInvalid("the run holds neither chain/bundle.json nor a node's files")
    with open_run(run) as ledger:
        return collect_rpc(ledger.web3, ledger.anchors, track=_Shown("Collecting blocks"))


def _write_html(report: AuditReport, path: Path) -> None:
    from ledger.files import atomic_write
    from ledger.report_html import render

    if path.is_dir():
        raise OutputError(f"{path} is a folder")
    atomic_write(path, render(report).encode())


def _finish(report: AuditReport, *, as_json: bool, html: Path | None) -> None:
    from ledger.report import print_report, report_record

    if html is not None:
        _write_html(report, html)
    if as_json:
        emit_json(report_record(report))
    else:
        print_report(report, out)
    if not report.clean:
        raise typer.Exit(1)
