"""What a hospital is shown is hashed again: it computes the contract's head, or refuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ledger.chain_types import LedgerEvent
from ledger.devchain import DevChain
from ledger.errors import HeadMismatch, InvalidStatement, Unconfirmed
from ledger.shown import History, ShownProposal
from ledger.statement import Domain, Mechanism, Opening, Rules
from tests.ledger.small_federation import Federation, account
from tests.ledger.test_every_event import eventful

ANSWERS = ("Attested", "Dissented", "Contested")


def shown_opening(events: Sequence[LedgerEvent], domain: Domain, number: int) -> Opening:
    return History(domain).opening(events, number)


def shown_proposal(
    events: Sequence[LedgerEvent], domain: Domain, number: int
) -> ShownProposal | None:
    return History(domain).proposal(events, number)


@pytest.fixture(scope="module")
def fed() -> Federation:
    return eventful(DevChain())


@pytest.fixture(scope="module")
def events(fed: Federation) -> list[LedgerEvent]:
    return fed.ledger.events()


def test_every_round_is_read_as_it_was_and_leads_to_its_head(
    fed: Federation, events: list[LedgerEvent]
) -> None:
    ledger, domain = fed.ledger, fed.ledger.domain
    heads = {e.args["sequence"]: e.args["head"] for e in events if e.name == "HeadAdvanced"}
    for number in (1, 2, 3):
        shown = shown_proposal(events, domain, number)
        assert shown is not None
        assert shown.opening == shown_opening(events, domain, number) == ledger.opening(number)
        assert shown.proposal == ledger.proposal(number)
        assert shown.commits == ledger.commits(number)
        assert shown.head in heads.values()
        assert (shown.head == ledger.round().proposed_head) == (number == 3)
    assert shown_proposal(events, domain, 4) is None
    with pytest.raises(Unconfirmed):
        shown_opening(events, domain, 4)


def _other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:] if value else b"\1"
    if isinstance(value, str):
        return account("somebody else").address
    if isinstance(value, Rules):
        return replace(value, min_commit_window=value.min_commit_window + 1)
    if isinstance(value, Mechanism):
        return replace(value, epsilon=value.epsilon + 1)
    return value[1:] if isinstance(value, tuple) else value ^ 1


def _forgeries(events: Sequence[LedgerEvent]) -> Iterator[tuple[str, list[LedgerEvent]]]:
    """Yield every history in which one field of one event, or the event itself, is another."""
    for place, event in enumerate(events):
        if event.name in ANSWERS:
            continue
        last_vote = events[place + 1].name == "HeadAdvanced" if event.name == "Voted" else None
        if last_vote is False:  # a later vote of the same ballot counts this one too
            continue
        yield f"no {event.name}", [*events[:place], *events[place + 1 :]]
        for name, value in event.args.items():
            forged = replace(event, args={**event.args, name: _other(value)})
            what = f"{event.name}.{name} in block {event.block}"
            if (event.name, name) != ("Voted", "hospital"):  # its bit in the votes says it
                yield what, [*events[:place], forged, *events[place + 1 :]]


def test_no_field_of_any_event_can_be_exchanged(fed: Federation, events: list[LedgerEvent]) -> None:
    end = next(i for i, e in enumerate(events) if e.name == "Proposed" and e.args["round"] == 3)
    missed = []
    tried = 0
    for what, forged in _forgeries(events[: end + 1]):
        tried += 1
        try:
            found = shown_proposal(forged, fed.ledger.domain, 3)
        except (HeadMismatch, InvalidStatement):
            continue
        if found is not None:  # else there is nothing to attest
            missed.append(what)
    assert missed == []
    assert tried > 200


def test_another_federations_history_is_refused(fed: Federation, events: list[LedgerEvent]) -> None:
    domain = fed.ledger.domain
    for other in (
        replace(domain, chain_id=domain.chain_id + 1),
        replace(domain, contract=account("another contract").address),
        Domain(federation_id=bytes(32), chain_id=domain.chain_id, contract=domain.contract),
    ):
        with pytest.raises(HeadMismatch):
            shown_proposal(events, other, 1)


def test_an_aborted_rounds_commits_are_bound_too(
    fed: Federation, events: list[LedgerEvent]
) -> None:
    fed.open()
    after = fed.ledger.events()
    assert shown_opening(after, fed.ledger.domain, 4) == fed.ledger.opening(4)
    aborted = next(i for i, e in enumerate(after) if e.name == "RoundAborted")
    for name, value in after[aborted].args.items():
        forged = list(after)
        forged[aborted] = replace(after[aborted], args={**after[aborted].args, name: _other(value)})
        with pytest.raises(HeadMismatch):
            shown_opening(forged, fed.ledger.domain, 4)


def test_a_history_is_followed_on_and_a_changed_past_is_noticed(
    fed: Federation, events: list[LedgerEvent]
) -> None:
    """Event by event, the same as at once; then a lie about the past, and the truth again."""
    history, domain = History(fed.ledger.domain), fed.ledger.domain
    opened = next(i for i, e in enumerate(events) if e.name == "RoundOpened")
    for end in range(opened, len(events)):
        assert history.opening(events[: end + 1], 1) == fed.ledger.opening(1)
    whole = shown_proposal(events, domain, 2)
    assert history.proposal(events, 2) == whole != history.proposal(events, 1)
    forged = list(events)
    committed = next(i for i, e in enumerate(events) if e.name == "Committed")
    other = {**events[committed].args, "sealDigest": bytes(32)}
    forged[committed] = replace(events[committed], args=other)
    for _ in range(2):
        with pytest.raises(HeadMismatch):
            history.proposal(forged, 2)
    assert history.proposal(events, 2) == whole
    before = [e for e in events if e.block < events[opened].block]
    assert history.proposal(before, 1) is None  # rewound: what was seen is forgotten
    with pytest.raises(Unconfirmed):
        history.opening(before, 1)
