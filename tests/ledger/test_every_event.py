"""The audit's own model of the contract follows a history with every event that there is."""

from __future__ import annotations

from dataclasses import replace

from contracts.artefact import load_artefact
from ledger.audit_record import open_record
from ledger.chain_types import LedgerEvent
from ledger.collect import collect_backend
from ledger.devchain import DevChain
from ledger.errors import InertUpdate, SumMismatch
from ledger.findings import Book
from ledger.replica import replay_events
from ledger.statement import Ballot, Unit, bitmap_of
from tests.ledger.small_federation import CAP, PROBE_ROWS, Federation, account, found

EVERY = {item["name"] for item in load_artefact().abi if item["type"] == "event"}


def eventful(chain: DevChain) -> Federation:
    """Play rounds that are verified, cut short, and aborted; enrol, remove, change coordinator."""
    fed = found(chain.web3, unit=Unit.PATIENT, min_accepted_of_members=0)
    ledger, (first, second, third) = fed.ledger, fed.hospitals
    fed.round(epsilon=1_000_000)
    ledger.lower_cap(first, CAP - 1)
    ledger.set_weight(second, 90)

    newcomer, successor = account("newcomer"), account("successor")
    for kind, subject in ((Ballot.ENROL, newcomer), (Ballot.SET_COORDINATOR, successor)):
        for voter in (first, second, third):
            ledger.vote(voter, kind, subject.address)
        ledger.enact(third, kind, subject.address)
    fed.coordinator = successor
    ledger.register(newcomer, CAP, 500_000, 80)

    short = fed.open()
    for hospital in (first, newcomer):
        fed.commit(hospital, short, 2_000_000)
    chain.travel(5)
    ledger.close_commits(fed.coordinator, short)
    ledger.propose(
        fed.coordinator,
        round=short,
        sum_digest=b"\x01" * 32,
        model_digest=b"\x02" * 32,
        accepted=bitmap_of([0, 3]),
        refused=0,
        reasons={},
        probes={seat: PROBE_ROWS[seat] for seat in (0, 3)},
    )
    for hospital in (first, newcomer):
        ledger.attest(hospital, short, ledger.round().proposed_head)
    ledger.finalise(newcomer, short)

    for voter in (first, second, newcomer):
        ledger.vote(voter, Ballot.REMOVE, third.address)
    ledger.enact(first, Ballot.REMOVE, third.address)
    fed.hospitals = [first, second]
    doubted = fed.open()
    for hospital in fed.hospitals:
        fed.commit(hospital, doubted, 3_000_000)
    chain.travel(700)
    fed.propose(doubted, {1: InertUpdate.code})
    ledger.dissent(first, doubted, SumMismatch.code)
    ledger.abort(fed.coordinator, doubted)
    return fed


def test_a_history_with_every_event_is_followed_to_the_same_head() -> None:
    chain = DevChain()
    fed = eventful(chain)
    anchors, book = fed.ledger.anchors, Book()
    opened = open_record(collect_backend(chain.tester.backend, anchors), anchors, book)
    history = replay_events(opened.events, anchors.domain, book)
    assert [str(item) for item in book.findings] == []
    assert history is not None
    assert history.head == fed.ledger.head()
    events: list[LedgerEvent] = fed.ledger.events()
    assert {event.name for event in events} == EVERY


def test_an_attestation_to_another_head_names_its_hospital() -> None:
    """Were one on a chain whose node or contract let it pass, the audit would not."""
    chain = DevChain()
    fed = found(chain.web3)
    fed.round()
    anchors, book = fed.ledger.anchors, Book()
    opened = open_record(collect_backend(chain.tester.backend, anchors), anchors, book)
    events = list(opened.events)
    place = next(i for i, event in enumerate(events) if event.name == "Attested")
    args = {**events[place].args, "proposedHead": fed.ledger.opening(1).open_head}
    events[place] = replace(events[place], args=args)
    replay_events(events, anchors.domain, book)
    assert [(item.error, item.check, item.hospital) for item in book.findings] == [
        ("HeadMismatch", "attested head", fed.hospitals[0].address)
    ]
