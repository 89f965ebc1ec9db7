from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import chain_events
from ledger.anchors import Anchors
from ledger.canonical import sha256
from ledger.chain import Ledger
from ledger.chain_events import unpack
from ledger.chain_rpc import Patience, connect
from ledger.devchain import DevChain
from ledger.errors import (
    AlreadyCommitted,
    AlreadyRegistered,
    AttestationsMissing,
    BudgetExceeded,
    BudgetNotCharged,
    CapMayOnlyFall,
    CommitUnaccounted,
    CommitWindowClosed,
    CommitWindowOpen,
    ConfigError,
    ContractError,
    HeadMismatch,
    InertUpdate,
    InvalidArgument,
    InvalidStatement,
    LedgerUnavailable,
    NormCapExceeded,
    NotAccepted,
    NotCoordinator,
    NotMember,
    NotRefused,
    ParentMismatch,
    RoundClosed,
    RoundLive,
    TransactionStuck,
    Unconfirmed,
    VotesMissing,
    WeightOverflow,
    WrongLedger,
    WrongPhase,
)
from ledger.statement import Ballot, Mechanism, Outcome, Phase, Unit, bitmap_of, pack_probes
from tests.ledger.small_federation import (
    CAP,
    FEDERATION,
    INITIAL,
    PROBE_ROWS,
    Federation,
    account,
    found,
)

STRANGER = account("stranger")


@pytest.fixture(scope="module")
def shared() -> tuple[DevChain, Federation]:
    chain = DevChain()
    return chain, found(chain.web3, unit=Unit.PATIENT)


@pytest.fixture
def world(shared: tuple[DevChain, Federation]) -> Iterator[tuple[DevChain, Federation]]:
    moment = shared[0].snapshot()
    yield shared
    shared[0].revert(moment)


@pytest.fixture(scope="module")
def done() -> tuple[DevChain, Federation]:
    """A federation after its first round; only read."""
    chain = DevChain()
    fed = found(chain.web3, unit=Unit.PATIENT)
    assert fed.ledger.model() == INITIAL
    assert fed.round(epsilon=1_000_000) == 1
    return chain, fed


def test_a_round_reads_back_as_statements(done: tuple[DevChain, Federation]) -> None:
    _, fed = done
    ledger, number = fed.ledger, 1
    opening = ledger.opening(number)
    assert opening.base_model == INITIAL
    assert opening.norm_bound == 2**39
    assert (opening.roster_count, opening.roster_weight) == (3, 330)
    assert opening.commit_deadline == ledger.opened_at(number) + 600
    commits = ledger.commits(number)
    assert list(commits) == [h.address for h in fed.hospitals]
    assert [c.seat for c in commits.values()] == [0, 1, 2]
    assert commits[fed.hospitals[1].address].mechanism.epsilon == 1_000_000
    for hospital, commit in commits.items():
        assert ledger.member(hospital).commit_hash == commit.commit_hash(FEDERATION)
    proposal = ledger.proposal(number)
    assert proposal is not None
    assert proposal.reasons == {2: InertUpdate.code}
    assert proposal.probes == {seat: PROBE_ROWS[seat] for seat in (0, 1)}
    weights = (100, 110)
    assert proposal.totals == tuple(
        sum(w * PROBE_ROWS[s][j] for s, w in enumerate(weights)) for j in range(16)
    )
    answers = ledger.answers(number)
    assert [a.kind for a in answers.values()] == ["attested", "attested", "contested"]
    assert answers[fed.hospitals[2].address].code == InertUpdate.code
    closing = ledger.closing(number)
    assert closing is not None
    assert closing.outcome is Outcome.SUM_VERIFIED
    assert closing.model == ledger.model() == proposal.model_digest
    assert ledger.round().phase is Phase.IDLE
    assert ledger.member(fed.hospitals[0].address).spent == 1_000_000


def test_events_alone_tell_the_heads(done: tuple[DevChain, Federation]) -> None:
    _, fed = done
    heads = [e.args for e in fed.ledger.events() if e.name == "HeadAdvanced"]
    assert [h["sequence"] for h in heads] == list(range(len(heads)))
    assert heads[-1]["head"] == fed.ledger.head()
    assert heads[-1]["sequence"] == fed.ledger.sequence() == fed.ledger.tip().sequence
    late = fed.ledger.tip().block
    assert {e.block for e in fed.ledger.events(late)} == {late}


def test_keys_hold_nothing(done: tuple[DevChain, Federation]) -> None:
    chain, fed = done
    for signer in (fed.coordinator, *fed.hospitals):
        assert chain.web3.eth.get_balance(signer.address) == 0


def test_nothing_yet(world: tuple[DevChain, Federation]) -> None:
    _, fed = world
    assert fed.ledger.proposal(1) is None
    assert fed.ledger.closing(1) is None
    assert fed.ledger.commits(1) == {}
    with pytest.raises(Unconfirmed):
        fed.ledger.opening(1)


def test_a_round_can_be_dissented_and_aborted(world: tuple[DevChain, Federation]) -> None:
    _, fed = world
    number = fed.open()
    for hospital in fed.hospitals:
        fed.commit(hospital, number, 1)
    fed.propose(number)
    fed.ledger.dissent(fed.hospitals[0], number, 40)
    fed.ledger.abort(fed.hospitals[1], number)
    answer = fed.ledger.answers(number)[fed.hospitals[0].address]
    assert (answer.kind, answer.code) == ("dissented", 40)
    closing = fed.ledger.closing(number)
    assert closing is not None
    assert closing.outcome is Outcome.ABORTED
    assert closing.model is None
    assert fed.ledger.model() == INITIAL


def test_membership_by_votes(world: tuple[DevChain, Federation]) -> None:
    _, fed = world
    for hospital in fed.hospitals[:2]:
        fed.ledger.vote(hospital, Ballot.ENROL, STRANGER.address)
    fed.ledger.enact(STRANGER, Ballot.ENROL, STRANGER.address)
    fed.ledger.register(STRANGER, CAP, 5, 7)
    assert fed.ledger.seats()[3] == STRANGER.address
    member = fed.ledger.member(STRANGER.address)
    assert (member.seat, member.weight, member.cap, member.spent) == (3, 7, CAP, 5)
    fed.ledger.lower_cap(STRANGER, 100)
    fed.ledger.set_weight(STRANGER, 9)
    assert (fed.ledger.member(STRANGER.address).cap, fed.ledger.round().number) == (100, 0)


Act = Callable[[DevChain, Federation], object]


def _after_commits(chain: DevChain, fed: Federation) -> int:
    number = fed.open()
    for hospital in fed.hospitals:
        fed.commit(hospital, number, 1)
    return number


def _close_then(chain: DevChain, fed: Federation, act: Callable[[int], object]) -> object:
    number = _after_commits(chain, fed)
    fed.propose(number, {2: InertUpdate.code})
    return act(number)


def _late(chain: DevChain, fed: Federation) -> None:
    number = fed.open()
    chain.travel(601)
    fed.commit(fed.hospitals[0], number, 1)


def _early(chain: DevChain, fed: Federation) -> None:
    number = fed.open()
    fed.commit(fed.hospitals[0], number, 1)
    fed.propose(number, {1: 1, 2: 1})


def _overlap(chain: DevChain, fed: Federation) -> None:
    number = _after_commits(chain, fed)
    fed.ledger.propose(
        fed.coordinator,
        round=number,
        sum_digest=sha256(b"s"),
        model_digest=sha256(b"m"),
        accepted=0b111,
        refused=0b100,
        reasons={2: 1},
        probes={seat: PROBE_ROWS[seat] for seat in range(3)},
    )


def _loud(chain: DevChain, fed: Federation) -> None:
    number = fed.open(norm_bound=1)
    for hospital in fed.hospitals:
        fed.commit(hospital, number, 1)
    fed.propose(number)


def _commit(chain: DevChain, fed: Federation, **changes: Any) -> None:
    number = fed.open()
    values = {
        "open_head": fed.ledger.opening(number).open_head,
        "seal_digest": sha256(b"a"),
        "opening_digest": sha256(b"b"),
        "mechanism": Mechanism(
            epsilon=1, noise_multiplier=10**6, sample_rate=10**7, steps=1, delta=1
        ),
        **changes,
    }
    fed.ledger.commit(fed.hospitals[0], **values)


REVERTS: dict[str, tuple[Act, type[ContractError], dict[str, object]]] = {
    "registered twice": (
        lambda c, f: f.ledger.register(f.hospitals[0], 1, 0, 1),
        AlreadyRegistered,
        {"sender": account("hospital 0").address},
    ),
    "stranger registers": (
        lambda c, f: f.ledger.register(STRANGER, 1, 0, 1),
        NotMember,
        {"sender": STRANGER.address},
    ),
    "cap raised": (
        lambda c, f: f.ledger.lower_cap(f.hospitals[0], CAP + 1),
        CapMayOnlyFall,
        {"cap": CAP, "given": CAP + 1},
    ),
    "weight too large": (
        lambda c, f: f.ledger.set_weight(f.hospitals[0], 2**24),
        WeightOverflow,
        {"weight": 2**24, "max": 2**24 - 1},
    ),
    "weight changed in a round": (
        lambda c, f: (f.open(), f.ledger.set_weight(f.hospitals[0], 5)),
        RoundLive,
        {"round": 1},
    ),
    "opened by a hospital": (
        lambda c, f: dataclasses.replace(f, coordinator=f.hospitals[0]).open(),
        NotCoordinator,
        {"sender": account("hospital 0").address},
    ),
    "opened twice": (lambda c, f: (f.open(), f.open()), RoundLive, {"round": 1}),
    "windows of no length": (
        lambda c, f: f.open(commit_window=0),
        InvalidArgument,
        {"what": "commitWindow"},
    ),
    "another base": (
        lambda c, f: f.ledger.open_round(
            f.coordinator,
            base_model=sha256(b"other"),
            config_digest=sha256(b"c"),
            key_digest=sha256(b"k"),
            norm_bound=1,
            commit_window=600,
            attest_window=600,
        ),
        ParentMismatch,
        {"expected": INITIAL, "given": sha256(b"other")},
    ),
    "stale head": (
        lambda c, f: _commit(c, f, open_head=bytes(32)),
        HeadMismatch,
        {"given": bytes(32)},
    ),
    "over the cap": (
        lambda c, f: f.commit(f.hospitals[0], f.open(), CAP + 1),
        BudgetExceeded,
        {"cap": CAP, "given": CAP + 1},
    ),
    "nothing charged": (
        lambda c, f: _commit(c, f, mechanism=Mechanism()),
        BudgetNotCharged,
        {"spent": 0, "given": 0},
    ),
    "committed twice": (
        lambda c, f: f.commit(f.hospitals[0], _after_commits(c, f), 2),
        AlreadyCommitted,
        {"sender": account("hospital 0").address, "round": 1},
    ),
    "late": (_late, CommitWindowClosed, {"round": 1}),
    "early": (_early, CommitWindowOpen, {"round": 1}),
    "listed twice": (
        _overlap,
        CommitUnaccounted,
        {"committed": 7, "accepted": 7, "refused": 4},
    ),
    "over the norm cap": (_loud, NormCapExceeded, {"seat": 0}),
    "attested too early": (
        lambda c, f: f.ledger.attest(f.hospitals[0], f.open(), bytes(32)),
        WrongPhase,
        {"phase": Phase.COMMITTING},
    ),
    "another head": (
        lambda c, f: _close_then(
            c, f, lambda n: f.ledger.attest(f.hospitals[0], n, sha256(b"head"))
        ),
        HeadMismatch,
        {"given": sha256(b"head")},
    ),
    "attested by the refused": (
        lambda c, f: _close_then(
            c, f, lambda n: f.ledger.attest(f.hospitals[2], n, f.ledger.round().proposed_head)
        ),
        NotAccepted,
        {"round": 1},
    ),
    "contested by the accepted": (
        lambda c, f: _close_then(c, f, lambda n: f.ledger.contest(f.hospitals[0], n, 1)),
        NotRefused,
        {"round": 1},
    ),
    "finalised early": (
        lambda c, f: _close_then(c, f, lambda n: f.ledger.finalise(STRANGER, n)),
        AttestationsMissing,
        {"accepted": 3, "attested": 0},
    ),
    "finalised with no round": (
        lambda c, f: f.ledger.finalise(STRANGER, 1),
        RoundClosed,
        {"round": 1},
    ),
    "enacted without votes": (
        lambda c, f: f.ledger.enact(STRANGER, Ballot.ENROL, STRANGER.address),
        VotesMissing,
        {"votes": 0, "needed": 2},
    ),
}


@pytest.mark.parametrize("name", REVERTS)
def test_reverts_become_errors_with_solidity_arguments(
    world: tuple[DevChain, Federation], name: str
) -> None:
    chain, fed = world
    act, expected, arguments = REVERTS[name]
    with pytest.raises(ContractError) as caught:
        act(chain, fed)
    assert type(caught.value) is expected
    assert arguments.items() <= caught.value.arguments.items()
    assert "{" not in str(caught.value)


def test_a_refused_call_costs_no_nonce(world: tuple[DevChain, Federation]) -> None:
    chain, fed = world
    hospital = fed.hospitals[0]
    before = chain.web3.eth.get_transaction_count(hospital.address)
    block = chain.web3.eth.block_number
    with pytest.raises(AlreadyRegistered):
        fed.ledger.register(hospital, 1, 0, 1)
    assert chain.web3.eth.get_transaction_count(hospital.address) == before
    assert chain.web3.eth.block_number == block


def test_a_revert_seen_only_when_mined_has_its_reason(
    world: tuple[DevChain, Federation], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, fed = world
    monkeypatch.setattr(fed.ledger._sender, "_try", lambda question: None)
    with pytest.raises(AlreadyRegistered) as caught:
        fed.ledger.register(fed.hospitals[0], 1, 0, 1)
    assert caught.value.arguments == {"sender": fed.hospitals[0].address}


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_probes_that_do_not_fit_are_refused(world: tuple[DevChain, Federation], value: int) -> None:
    _, fed = world
    with pytest.raises(InvalidStatement):
        fed.ledger.propose(
            fed.coordinator,
            round=1,
            sum_digest=bytes(32),
            model_digest=bytes(32),
            accepted=bitmap_of([0]),
            refused=0,
            reasons={},
            probes={0: (value,) * 16},
        )


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=16, max_size=16))
def test_probes_unpack_as_packed(row: list[int]) -> None:
    assert unpack(pack_probes([tuple(row)]), 8) == tuple(row)
    with pytest.raises(InvalidStatement):
        unpack(pack_probes([tuple(row)])[:-1], 8)


# ---- attaching ----


def test_attach_accepts_its_own(world: tuple[DevChain, Federation]) -> None:
    chain, fed = world
    ledger = Ledger.attach(chain.web3, Anchors.from_json(fed.ledger.anchors.to_json()))
    assert ledger.tip() == fed.ledger.tip()
    assert ledger.domain == fed.ledger.domain
    assert ledger.rules() == fed.ledger.rules()


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": 1},
        {"genesis_hash": bytes(32)},
        {"federation_id": sha256(b"another")},
        {"coordinator": STRANGER.address},
        {"founders": (STRANGER.address,)},
        {"contract": STRANGER.address},
    ],
    ids=lambda change: next(iter(change)),
)
def test_attach_refuses_another_ledger(
    world: tuple[DevChain, Federation], change: dict[str, Any]
) -> None:
    chain, fed = world
    with pytest.raises(WrongLedger):
        Ledger.attach(chain.web3, dataclasses.replace(fed.ledger.anchors, **change))


def test_attach_refuses_other_bytecode(world: tuple[DevChain, Federation]) -> None:
    chain, fed = world
    code = bytearray(
        chain.web3.eth.get_code(chain.web3.to_checksum_address(fed.ledger.anchors.contract))
    )
    code[-1] ^= 1
    size = len(code).to_bytes(2, "big").hex()
    # PUSH2 size DUP1 PUSH1 12 PUSH1 0 CODECOPY PUSH1 0 RETURN
    creation = bytes.fromhex(f"61{size}80600c6000396000f3") + bytes(code)
    receipt, node = fed.ledger._sender.send(STRANGER, creation, None)
    assert receipt.block
    contract = str(node["contractAddress"])
    assert chain.web3.eth.get_code(chain.web3.to_checksum_address(contract)) == bytes(code)
    with pytest.raises(WrongLedger, match="code"):
        Ledger.attach(chain.web3, dataclasses.replace(fed.ledger.anchors, contract=contract))


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"format":"thoracle/anchors/v1"}', '{"format":1,"format":1}'],
)
def test_malformed_anchors_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Anchors.from_json(text)


def test_anchors_check_every_field(world: tuple[DevChain, Federation]) -> None:
    record = world[1].ledger.anchors.to_record()
    assert Anchors.from_record(record) == world[1].ledger.anchors
    for key in record:
        with pytest.raises(ConfigError):
            Anchors.from_record({**record, key: "wrong"})


# ---- confirmations, reorganisations, outages ----


def test_records_count_only_when_confirmed(world: tuple[DevChain, Federation]) -> None:
    chain, fed = world
    careful = Ledger(chain.web3, fed.ledger.anchors, confirmations=2)
    before = careful.tip()
    number = fed.open()
    with pytest.raises(Unconfirmed):
        careful.opening(number)
    chain.mine(2)
    assert careful.opening(number) == fed.ledger.opening(number)
    assert careful.tip().block == before.block + 3


def test_a_contract_without_confirmations_is_not_there_yet() -> None:
    chain = DevChain()
    fed = found(chain.web3, hospitals=1)
    with pytest.raises(Unconfirmed):
        Ledger.attach(chain.web3, fed.ledger.anchors, confirmations=2)
    with pytest.raises(Unconfirmed):
        Ledger(chain.web3, fed.ledger.anchors, confirmations=99).head()


def test_a_send_waits_for_its_confirmations(world: tuple[DevChain, Federation]) -> None:
    chain, fed = world
    hasty = Patience(mining=0.1)
    careful = Ledger(chain.web3, fed.ledger.anchors, confirmations=1, patience=hasty)
    with pytest.raises(Unconfirmed):
        careful.set_weight(fed.hospitals[0], 5)
    assert fed.ledger.member(fed.hospitals[0].address).weight == 5


def test_events_follow_a_rewound_chain(world: tuple[DevChain, Federation]) -> None:
    chain, fed = world
    moment = chain.snapshot()
    fed.ledger.set_weight(fed.hospitals[0], 5)
    first = fed.ledger.events()
    chain.revert(moment)
    fed.ledger.set_weight(fed.hospitals[0], 6)
    second = fed.ledger.events()
    assert len(first) == len(second)
    assert (first[-1].args["weight"], second[-1].args["weight"]) == (5, 6)


def test_events_are_fetched_in_bounded_ranges(
    done: tuple[DevChain, Federation], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, fed = done
    expected = fed.ledger.events()
    monkeypatch.setattr(chain_events, "SPAN", 3)
    asked: list[tuple[int, int]] = []
    ask = chain.web3.eth.get_logs

    def watch(query: Any) -> Any:
        asked.append((query["fromBlock"], query["toBlock"]))
        return ask(query)

    monkeypatch.setattr(chain.web3.eth, "get_logs", watch)
    fresh = Ledger(chain.web3, fed.ledger.anchors)
    assert fresh.events() == expected
    assert all(last - first < 3 for first, last in asked)
    assert [first for first, _ in asked[1:]] == [last + 1 for _, last in asked[:-1]]


def test_a_transaction_that_is_not_mined_is_stuck(world: tuple[DevChain, Federation]) -> None:
    chain, fed = world
    hasty = Ledger(chain.web3, fed.ledger.anchors, patience=Patience(mining=0.1))
    chain.tester.disable_auto_mine_transactions()
    try:
        with pytest.raises(TransactionStuck):
            hasty.set_weight(fed.hospitals[0], 5)
    finally:
        chain.tester.enable_auto_mine_transactions()
        chain.mine()


def test_a_node_that_is_down_is_unavailable(world: tuple[DevChain, Federation]) -> None:
    _, fed = world
    gone = Ledger(connect("http://127.0.0.1:9"), fed.ledger.anchors, patience=Patience(outage=0.2))
    for act in (gone.head, gone.events, lambda: gone.attest(STRANGER, 1, bytes(32))):
        with pytest.raises(LedgerUnavailable):
            act()


class _Limping(BaseHTTPRequestHandler):
    refused = 0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_POST(self) -> None:
        number = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["id"]
        type(self).refused += 1
        good = type(self).refused > 2
        body = json.dumps({"jsonrpc": "2.0", "id": number, "result": "0x10"}).encode()
        self.send_response(200 if good else 503)
        self.send_header("Content-Length", str(len(body) if good else 0))
        self.end_headers()
        self.wfile.write(body if good else b"")


def test_a_short_outage_is_sat_out(world: tuple[DevChain, Federation]) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Limping)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        ledger = Ledger(
            connect(f"http://127.0.0.1:{server.server_address[1]}"), world[1].ledger.anchors
        )
        assert ledger.height() == 16
        assert _Limping.refused == 3
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("url", ["", "ws://127.0.0.1", "file:///x", "127.0.0.1:8545"])
def test_only_http_nodes(url: str) -> None:
    with pytest.raises(ConfigError):
        connect(url)


def test_a_lost_transaction_is_sent_again_from_the_journal(tmp_path: Path) -> None:
    from ledger.txlog import TransactionLog

    chain = DevChain()
    journal = TransactionLog(tmp_path / "transactions.jsonl")
    fed = found(chain.web3, journal=journal)
    number = fed.open()
    moment = chain.snapshot()
    fed.commit(fed.hospitals[0], number)
    chain.revert(moment)
    assert fed.ledger.commits(number) == {}
    assert fed.ledger.recover() == 1
    assert fed.ledger.recover() == 0
    assert list(fed.ledger.commits(number)) == [fed.hospitals[0].address]
    fed.commit(fed.hospitals[1], number)
    assert len(fed.ledger.commits(number)) == 2
    journal.close()
    reopened = TransactionLog(tmp_path / "transactions.jsonl")
    assert all(entry.mined is not None for entry in reopened.entries())
    reopened.close()
