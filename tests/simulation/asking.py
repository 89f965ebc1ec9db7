"""One command, asked as a person would ask it."""

from __future__ import annotations

from collections.abc import Callable

import typer
from typer.testing import CliRunner

from ledger.errors import ThoracleError


def ask(command: Callable[..., None], *arguments: object) -> str:
    """Return what a command prints; raise the deliberate error that ends it."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, ThoracleError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout
