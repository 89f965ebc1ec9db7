"""What the coordinator reads off the chain before it decides, gathered once a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ledger.chain import Ledger
from ledger.chain_types import LedgerEvent
from ledger.manifest import Manifest
from ledger.statement import Domain
from server.mechanism import MechanismPolicy
from server.verify import RoundFacts, Spending, metrics_of


def read_facts(
    ledger: Ledger,
    number: int,
    *,
    config: Mapping[str, object],
    update: Manifest,
    key_epoch: int,
    other_domains: Sequence[Domain] = (),
) -> RoundFacts:
    """Return everything admission leans on, from the chain and the round's configuration.

    Raises:
        PolicyError: the configuration's privacy is misconfigured.
        LedgerUnavailable: the node cannot be reached.
    """
    events = ledger.events()
    return RoundFacts(
        domain=ledger.domain,
        opening=ledger.opening(number),
        commits=ledger.commits(number),
        update=update,
        key_epoch=key_epoch,
        metrics=metrics_of(config),
        mechanism=MechanismPolicy.from_config(config.get("privacy")),
        spending=read_spending(events, number),
        earlier_models=[
            bytes(event.args["baseModel"])
            for event in events
            if event.name == "RoundOpened" and event.args["round"] < number
        ],
        other_domains=other_domains,
    )


def read_spending(events: Sequence[LedgerEvent], number: int) -> dict[str, Spending]:
    """Return what each hospital declared before round ``number``, aborted rounds too."""
    found: dict[str, Spending] = {}
    for event in events:
        if event.name == "Registered":
            found[event.args["hospital"]] = Spending(opening=event.args["spent"])
        elif event.name == "Committed" and event.args["round"] < number:
            old = found.get(event.args["hospital"], Spending())
            found[event.args["hospital"]] = Spending(
                opening=old.opening, mechanisms=(*old.mechanisms, event.args["mechanism"])
            )
    return found
