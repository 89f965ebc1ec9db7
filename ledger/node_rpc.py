"""Speaking to anvil past the allow-list: what the owner of the node needs for its journal."""

from __future__ import annotations

from typing import Any

from ledger.rpc_filter import NodeDown, Upstream
from ledger.transactions import Mined, to_hex


class AnvilNode:
    """Anvil as the journal sees it (`ledger.txlog.Node`), over one connection.

    Raises:
        NodeDown: from every method, where anvil does not answer or makes no sense.
    """

    def __init__(self, port: int) -> None:
        self._upstream = Upstream(port)

    def __enter__(self) -> AnvilNode:
        return self

    def __exit__(self, *_: object) -> None:
        self._upstream.close()

    def look_up(self, tx_hash: bytes) -> Mined | None:
        """Return what became of a transaction, or None where it is not mined."""
        receipt = self._call("eth_getTransactionReceipt", to_hex(tx_hash))
        if receipt is None:
            return None
        block = self._call("eth_getBlockByNumber", receipt["blockNumber"], False)
        return Mined.of_rpc(receipt, int(block["timestamp"], 16))

    def send(self, raw: bytes) -> str | None:
        """Broadcast a transaction; return why anvil refuses it, or None."""
        request = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction"}
        answer = self._upstream.ask({**request, "params": [to_hex(raw)]})
        error = answer.get("error")
        return None if error is None else str(error.get("message", "refused"))

    def waits(self, tx_hash: bytes) -> bool:
        """Say whether a transaction in the pool waits for an earlier one of its sender."""
        found = self._call("eth_getTransactionByHash", to_hex(tx_hash))
        if found is None or found["blockNumber"] is not None:
            return False
        count = self._call("eth_getTransactionCount", found["from"], "latest")
        return int(found["nonce"], 16) > int(count, 16)

    def drop(self, tx_hash: bytes) -> None:
        """Take a transaction out of the pool."""
        self._call("anvil_dropTransaction", to_hex(tx_hash))

    def _call(self, method: str, *params: object) -> Any:
        try:
            return self._upstream.call(method, *params)
        except ValueError as error:
            raise NodeDown(str(error)) from error
