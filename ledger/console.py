"""What every command prints with: one console for people, one line of JSON for programs.

Results go to standard output, progress and errors to standard error, so that ``--json`` output
can be piped while progress stays visible.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ledger.errors import ThoracleError

T = TypeVar("T")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the figures as JSON, nothing else.")]


def emit_json(value: object) -> None:
    """Write one JSON document to standard output (finite numbers only, keys as given)."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def progress() -> Progress:
    """Return a progress display on standard error, silent where that is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` while showing progress on standard error."""
    with progress() as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task)


def run(act: Callable[[], object]) -> None:
    """Run a command; exit 1 with one sentence on any deliberate error.

    Where ``--json`` was asked for, the error is also a JSON document on standard output, so that
    a program never reads nothing.
    """
    try:
        act()
    except ThoracleError as error:
        err.print(f"[bold red]{error.name}[/]: {escape(str(error))}", soft_wrap=True)
        if "--json" in sys.argv[1:]:
            emit_json({"error": error.name, "message": str(error)})
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("Interrupted.")
        sys.exit(130)
