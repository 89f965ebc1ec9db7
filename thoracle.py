"""The one command: mounts each wing's own commands, and turns errors into one sentence."""

from __future__ import annotations

import typer

from ledger.console import run


def build_app() -> typer.Typer:
    """Return the whole command line; each wing brings its own part."""
    from client.data.commands import app as data
    from ledger.audit_commands import app as audit
    from ledger.chain_commands import app as chain
    from server.erase_command import register as register_erase
    from simulation.average_command import average
    from simulation.commands import simulate
    from simulation.compare_command import compare
    from simulation.data_commands import register as register_data
    from simulation.doctor_command import doctor
    from simulation.evaluate_command import evaluate
    from simulation.explain_command import explain
    from simulation.export_command import export
    from simulation.generate_command import generate
    from simulation.predict_command import predict
    from simulation.privacy_commands import app as privacy

    app = typer.Typer(
        name="thoracle",
        help=(
            "Federated learning on chest radiographs, every aggregate committed, checked and"
            " auditable on a ledger.\n\nStart with: thoracle simulate --out runs/first, then"
            " thoracle audit verify runs/first"
        ),
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    register_data(data)
    app.command()(simulate)
    app.command()(evaluate)
    app.command()(compare)
    app.command()(average)
    app.command()(predict)
    app.command()(explain)
    app.command()(generate)
    app.command()(export)
    app.command()(doctor)
    register_erase(audit)
    app.add_typer(audit, name="audit")
    app.add_typer(chain, name="chain")
    app.add_typer(data, name="data")
    app.add_typer(privacy, name="privacy")
    return app


def main() -> None:
    """Run the command line; any deliberate error is one sentence and exit 1."""
    run(_build_and_run)


def _build_and_run() -> None:
    """Build the commands inside ``run``, so that an interrupt during the imports is caught, too."""
    build_app()()


if __name__ == "__main__":
    main()
