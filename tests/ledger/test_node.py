"""The allow-list and the search for anvil; the real node is in ``tests/e2e/test_anvil.py``."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ledger import node_process
from ledger.errors import ConfigError, LedgerUnavailable, RunBusy
from ledger.node import ManagedAnvil
from ledger.node_process import find_anvil
from ledger.rpc_filter import ALLOWED, MAX_BATCH, MAX_BODY, RpcFilter, refusal


class _Echo(BaseHTTPRequestHandler):
    """A node that answers every request with its method and parameters."""

    protocol_version = "HTTP/1.1"
    seen: list[str]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append(request["method"])
        answer = {"jsonrpc": "2.0", "id": request["id"], "result": request.get("params")}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Bench:
    """A filter in front of an echoing node, and one connection to it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.submitted: list[bytes] = []
        handler = type("Echo", (_Echo,), {"seen": self.seen})
        self.upstream = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.upstream.daemon_threads = True
        self.thread = threading.Thread(target=self.upstream.serve_forever, args=(0.02,))
        self.thread.start()
        self.filter = RpcFilter(lambda: int(self.upstream.server_address[1]), self.submit)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.filter.port, timeout=10)

    def submit(self, raw: bytes) -> dict[str, Any]:
        self.submitted.append(raw)
        return {"result": "0x01"}

    def post(self, body: bytes, **headers: str) -> tuple[int, bytes]:
        self.connection.request("POST", "/", body, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def ask(self, *requests: Any) -> Any:
        body = requests[0] if len(requests) == 1 else list(requests)
        status, answer = self.post(json.dumps(body).encode())
        assert status == 200
        return json.loads(answer)

    def stop_upstream(self) -> None:
        self.upstream.shutdown()
        self.upstream.server_close()
        self.thread.join()

    def close(self) -> None:
        self.connection.close()
        self.filter.close()
        if self.thread.is_alive():
            self.stop_upstream()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def call(method: str, *params: object, number: object = 7) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


@pytest.mark.parametrize("method", sorted(ALLOWED - {"eth_sendRawTransaction"}))
def test_reads_pass(bench: Bench, method: str) -> None:
    assert bench.ask(call(method, "0x1")) == {"jsonrpc": "2.0", "id": 7, "result": ["0x1"]}
    assert bench.seen == [method]


@pytest.mark.parametrize(
    "method",
    [
        "anvil_setStorageAt",
        "anvil_setCode",
        "anvil_impersonateAccount",
        "anvil_dumpState",
        "evm_mine",
        "evm_setTime",
        "evm_revert",
        "hardhat_setStorageAt",
        "eth_sendTransaction",
        "eth_sign",
        "eth_accounts",
        "personal_unlockAccount",
        "debug_traceTransaction",
        "txpool_content",
        "admin_peers",
        "tenderly_setBalance",
        "ETH_CALL",
        "eth_call ",
        "",
        None,
        5,
    ],
)
def test_everything_else_stops_here(bench: Bench, method: object) -> None:
    answer = bench.ask({"jsonrpc": "2.0", "id": 7, "method": method, "params": []})
    assert answer["error"]["code"] == -32601
    assert bench.seen == []


def test_a_refused_call_in_a_batch_stops_only_itself(bench: Bench) -> None:
    answers = bench.ask(
        call("eth_chainId", number=1), call("anvil_reset", number=2), call("net_version", number=3)
    )
    assert [("error" in a, a["id"]) for a in answers] == [(False, 1), (True, 2), (False, 3)]
    assert bench.seen == ["eth_chainId", "net_version"]


def test_raw_transactions_go_to_the_owner_only(bench: Bench) -> None:
    assert bench.ask(call("eth_sendRawTransaction", "0xbeef"))["result"] == "0x01"
    assert bench.submitted == [b"\xbe\xef"]
    assert bench.seen == []


@pytest.mark.parametrize("params", [[], ["beef"], ["0xzz"], [5], [None], ["0x00", "0x00"], ["0x0"]])
def test_malformed_raw_transactions_are_refused(bench: Bench, params: list[object]) -> None:
    assert bench.ask(call("eth_sendRawTransaction", *params))["error"]["code"] == -32602
    assert bench.submitted == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"id":1,"id":2}', b"[" * 10_000])
def test_what_is_not_json_is_refused(bench: Bench, body: bytes) -> None:
    status, answer = bench.post(body)
    assert (status, json.loads(answer)["error"]["code"]) == (200, -32700)


@pytest.mark.parametrize(
    "request_",
    [
        [],
        5,
        "x",
        {},
        [5],
        {"jsonrpc": "1.0", "id": 1, "method": "eth_call"},
        {"jsonrpc": "2.0", "id": [1], "method": "eth_call", "params": []},
        {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": {"a": 1}},
    ],
)
def test_what_is_not_a_request_is_refused(bench: Bench, request_: object) -> None:
    answer = bench.ask(request_)
    answer = answer[0] if isinstance(answer, list) else answer
    assert answer["error"]["code"] == -32600
    assert bench.seen == []


def test_a_batch_is_bounded(bench: Bench) -> None:
    assert "error" in bench.ask(*[call("eth_chainId")] * (MAX_BATCH + 1))
    assert bench.seen == []


def test_a_body_is_bounded_before_it_is_read(bench: Bench) -> None:
    bench.connection.putrequest("POST", "/")
    bench.connection.putheader("Content-Length", str(MAX_BODY + 1))
    bench.connection.endheaders()
    assert bench.connection.getresponse().status == 413


@pytest.mark.parametrize("length", ["-1", "x", "", "9" * 30])
def test_a_body_needs_an_honest_length(bench: Bench, length: str) -> None:
    bench.connection.putrequest("POST", "/")
    bench.connection.putheader("Content-Length", length)
    bench.connection.endheaders()
    assert bench.connection.getresponse().status in (411, 413)


def test_web_pages_are_turned_away(bench: Bench) -> None:
    body = json.dumps(call("eth_chainId")).encode()
    assert bench.post(body, Origin="https://example.org")[0] == 403
    assert bench.seen == []


def test_other_verbs_are_not_served(bench: Bench) -> None:
    bench.connection.request("GET", "/")
    assert bench.connection.getresponse().status == 501


def test_one_connection_serves_many_requests(bench: Bench) -> None:
    bench.ask(call("eth_chainId"))
    local = bench.connection.sock.getsockname()
    for _ in range(5):
        bench.ask(call("eth_chainId"))
    assert bench.connection.sock.getsockname() == local


def test_a_dead_node_is_told_as_unavailable(bench: Bench) -> None:
    bench.ask(call("eth_chainId"))
    bench.stop_upstream()
    bench.connection.close()
    status, _ = bench.post(json.dumps(call("eth_chainId")).encode())
    assert status == 503


def test_refusal_is_pure() -> None:
    assert refusal(call("eth_call")) is None
    assert refusal(call("evm_mine")) is not None


# ---- finding anvil ----


def test_a_named_anvil_must_be_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THORACLE_ANVIL", str(tmp_path / "anvil"))
    with pytest.raises(ConfigError, match="THORACLE_ANVIL"):
        find_anvil()
    program = tmp_path / "anvil"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_anvil() == program


def test_a_missing_anvil_is_said_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THORACLE_ANVIL", raising=False)
    monkeypatch.setattr(node_process, "_PROJECTS", (tmp_path,))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="npm ci"):
        find_anvil()
    with pytest.raises(ConfigError, match="npm ci"):
        ManagedAnvil(tmp_path / "chain").start()


def test_an_anvil_that_ends_at_once_is_unavailable(tmp_path: Path) -> None:
    program = tmp_path / "anvil"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    node = ManagedAnvil(tmp_path / "chain", binary=program)
    with pytest.raises(LedgerUnavailable, match="does not start"):
        node.start()
    with pytest.raises(LedgerUnavailable, match="not running"):
        _ = node.url
    assert not node.alive()


def test_a_folder_in_use_is_busy(tmp_path: Path) -> None:
    program = tmp_path / "anvil"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    first = ManagedAnvil(tmp_path / "chain", binary=program)
    (tmp_path / "chain").mkdir()
    with first._lock, pytest.raises(RunBusy):
        ManagedAnvil(tmp_path / "chain", binary=program).start()


@pytest.mark.parametrize("text", ["", "{}", '{"format":"thoracle/node/v1"}', "[]"])
def test_a_damaged_description_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "node.json").write_text(text)
    with pytest.raises(ConfigError):
        ManagedAnvil(tmp_path, binary=tmp_path / "none").start()


def test_a_chain_keeps_its_id(tmp_path: Path) -> None:
    program = tmp_path / "anvil"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(LedgerUnavailable):
        ManagedAnvil(tmp_path / "chain", binary=program, chain_id=5).start()
    with pytest.raises(ConfigError, match="id 5"):
        ManagedAnvil(tmp_path / "chain", binary=program, chain_id=6).start()
