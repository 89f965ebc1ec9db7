"""An allow-list in front of a development node: reads and signed transactions pass, nothing else.

A development node obeys whoever reaches it (`anvil_setStorageAt` rewrites the ledger itself), so
hospitals are given this filter's address. It parses every request within bounds, forwards only the
methods listed here, and answers the rest with JSON-RPC's own "method not found". Raw transactions
do not pass through it at all: they are handed to the node's owner, who journals them first.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ledger.canonical import parse_json
from ledger.errors import CodecError

ALLOWED = frozenset(
    {
        "eth_blockNumber",
        "eth_call",
        "eth_chainId",
        "eth_estimateGas",
        "eth_feeHistory",
        "eth_gasPrice",
        "eth_getBalance",
        "eth_getBlockByHash",
        "eth_getBlockByNumber",
        "eth_getBlockReceipts",
        "eth_getBlockTransactionCountByHash",
        "eth_getBlockTransactionCountByNumber",
        "eth_getCode",
        "eth_getLogs",
        "eth_getProof",
        "eth_getRawTransactionByHash",
        "eth_getStorageAt",
        "eth_getTransactionByBlockHashAndIndex",
        "eth_getTransactionByBlockNumberAndIndex",
        "eth_getTransactionByHash",
        "eth_getTransactionCount",
        "eth_getTransactionReceipt",
        "eth_maxPriorityFeePerGas",
        "eth_sendRawTransaction",
        "eth_syncing",
        "net_version",
        "web3_clientVersion",
    }
)
"""Every method that a hospital, an auditor or the coordinator needs; none that changes the node."""
MAX_BODY = 4 << 20
MAX_BATCH = 100
MAX_RAW = 1 << 18
_IDLE = 300.0

Record = dict[str, Any]


def refusal(request: object) -> Record | None:
    """Return the JSON-RPC error that ``request`` deserves, or None where it may pass."""
    if not isinstance(request, dict) or request.get("jsonrpc") != "2.0":
        return failure(None, -32600, "not a JSON-RPC 2.0 request")
    number, method, params = request.get("id"), request.get("method"), request.get("params", [])
    if not isinstance(number, int | str | None) or not isinstance(params, list):
        return failure(None, -32600, "not a JSON-RPC 2.0 request with positional parameters")
    if not isinstance(method, str) or method not in ALLOWED:
        return failure(number, -32601, "the method is not on the allow-list of this node")
    return None


def failure(number: object, code: int, message: str) -> Record:
    """Return a JSON-RPC error response."""
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}


class NodeDown(Exception):
    """The node behind the filter does not answer; told to the client as HTTP 503."""


class Upstream:
    """One kept-alive connection to the node; each thread has its own."""

    def __init__(self, port: int, *, timeout: float = 30.0) -> None:
        self._port = port
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, request: Record) -> Record:
        """Forward one request and return the response; a dropped connection is reopened once.

        Raises:
            NodeDown: no answer.
        """
        body = json.dumps(request).encode()
        reused = self._connection is not None
        try:
            return self._post(body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            # Only an idle connection that the node closed is worth a second try.
            if not reused or isinstance(error, TimeoutError):
                raise NodeDown(str(error)) from error
        try:
            return self._post(body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise NodeDown(str(error)) from error

    def call(self, method: str, *params: object) -> Any:
        """Call one method and return its result.

        Raises:
            NodeDown: no answer.
            ValueError: the node answers with an error.
        """
        answer = self.ask({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        if "error" in answer:
            raise ValueError(f"{method}: {answer['error'].get('message')}")
        return answer.get("result")

    def _post(self, body: bytes) -> Record:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                "127.0.0.1", self._port, timeout=self._timeout
            )
        self._connection.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = json.loads(self._connection.getresponse().read())
        if not isinstance(answer, dict):
            raise ValueError("the node's answer is not an object")
        return answer

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class RpcFilter:
    """The HTTP server that parties talk to.

    Args:
        upstream: port of the node on this machine's loopback, asked anew for each connection so
            that the node may be restarted behind the filter.
        submit: takes a raw transaction, answers with a JSON-RPC response without its id.
        host: address to listen on.
        port: 0 for any free one.
    """

    def __init__(
        self,
        upstream: Callable[[], int],
        submit: Callable[[bytes], Record],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.upstream = upstream
        self.submit = submit
        self._server = _Server((host, port), _Handler)
        self._server.filter = self
        self.host, self.port = host, int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def answer(self, request: object, node: Upstream) -> Record:
        """Answer one request (see `refusal`).

        Raises:
            NodeDown: the node does not answer.
        """
        refused = refusal(request)
        if refused is not None or not isinstance(request, dict):
            return refused or failure(None, -32600, "not a request")
        if request["method"] != "eth_sendRawTransaction":
            return node.ask(request)
        params = request.get("params", [])
        try:
            text = params[0]
            if len(params) != 1 or not text.startswith("0x") or len(text) > 2 * MAX_RAW:
                raise ValueError
            raw = bytes.fromhex(text[2:])
        except (IndexError, ValueError, TypeError, AttributeError):
            return failure(request.get("id"), -32602, "not a raw transaction in 0x-hex")
        return {"jsonrpc": "2.0", "id": request.get("id"), **self.submit(raw)}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    filter: RpcFilter


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "thoracle"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together
    timeout = _IDLE
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._port = 0
        self._node = Upstream(0)

    def finish(self) -> None:
        self._node.close()
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Stay silent: requests are no news, and may hold what should not be logged."""

    def do_POST(self) -> None:
        """Answer one JSON-RPC request or batch."""
        if self.headers.get("Origin") is not None:  # a web page, sent here by a stranger
            return self._refuse(403)
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or self.headers.get("Transfer-Encoding"):
            return self._refuse(411)
        if len(length) > 9 or int(length) > MAX_BODY:
            return self._refuse(413)
        body = self.rfile.read(int(length))
        try:
            request = parse_json(body, MAX_BODY)
        except CodecError:
            return self._send(200, json.dumps(failure(None, -32700, "not JSON")).encode())
        try:
            answer = self._answer(request)
        except NodeDown:
            return self._refuse(503)
        return self._send(200, json.dumps(answer).encode() if answer else b"")

    def _answer(self, request: object) -> object:
        port = self.server.filter.upstream()
        if port != self._port:  # the node was restarted
            self._node.close()
            self._port, self._node = port, Upstream(port)
        if not isinstance(request, list):
            return self.server.filter.answer(request, self._node)
        if not request or len(request) > MAX_BATCH:
            return failure(None, -32600, f"a batch holds 1 to {MAX_BATCH} requests")
        return [self.server.filter.answer(item, self._node) for item in request]

    def _refuse(self, status: int) -> None:
        self.close_connection = True
        self._send(status, b"")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
