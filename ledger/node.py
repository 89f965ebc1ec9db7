"""A chain of one's own: an anvil process, journalled and fenced.

Anvil keeps its chain in memory and dumps it to a file every few seconds, so a kill loses the
newest blocks. Here every transaction passes through the owner of the node, who writes it to a
journal before anvil sees it, and its block time and effects before the sender hears of them:
whatever anyone has acted on can be re-created exactly (`ledger.txlog`). The address that parties
are given is the allow-list's (`ledger.rpc_filter`), never anvil's.
"""

from __future__ import annotations

import atexit
import hashlib
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from eth_utils.crypto import keccak

from ledger.canonical import canonical_json, parse_json
from ledger.errors import CodecError, ConfigError, LedgerUnavailable
from ledger.files import atomic_write, read_bounded, remove, storage_error
from ledger.lock import RunLock
from ledger.node_process import AnvilPlan, end, find_anvil, run_anvil
from ledger.node_rpc import AnvilNode
from ledger.rpc_filter import NodeDown, Record, RpcFilter, Upstream, failure
from ledger.steps import step
from ledger.transactions import to_hex
from ledger.txlog import TransactionLog

FORMAT = "thoracle/node/v1"
DEFAULT_CHAIN_ID = 31337
_MINING = 10.0


class ManagedAnvil:
    """An anvil node that survives kill -9; use it as a context manager.

    Files in ``folder``: ``node.json`` (chain id, genesis time, digest of the state file when the
    node last stopped), ``anvil-state.json`` (anvil's own dump), ``transactions.jsonl`` (the
    journal), ``anvil.log``. Gas is free, mining instant, and no account holds anything.

    Attributes:
        journal: every transaction the node was ever given.
    """

    journal: TransactionLog

    def __init__(
        self,
        folder: Path,
        *,
        chain_id: int = DEFAULT_CHAIN_ID,
        host: str = "127.0.0.1",
        port: int = 0,
        binary: Path | None = None,
        startup: float = 30.0,
    ) -> None:
        """Describe a node; `start` (or ``with``) starts it.

        Args:
            folder: where the chain lives; created if absent, continued if not.
            chain_id: EIP-155 number; fixed once the folder has a chain.
            host: address the allow-list listens on (anvil itself is always on loopback).
            port: of the allow-list; 0 for any free one.
            binary: anvil; default: see `ledger.node_process.find_anvil`.
            startup: seconds anvil may take to answer.
        """
        self.folder = Path(folder)
        self.chain_id = chain_id
        self._host, self._port = host, port
        self._binary = binary
        self._startup = startup
        self._process: subprocess.Popen[bytes] | None = None
        self._anvil_port = 0
        self._filter: RpcFilter | None = None
        self._sending = threading.Lock()
        self._lock = RunLock(self.folder, "node", f"the chain in {self.folder}")

    # ---- life ----

    def __enter__(self) -> ManagedAnvil:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> ManagedAnvil:
        """Start anvil, re-create what it lost, and open the allow-list.

        Raises:
            ConfigError: anvil is not installed, or the folder's chain has another chain id.
            RunBusy: another process runs a node on this folder.
            JournalCorrupt: the journal is damaged, or the node's chain contradicts it.
            LedgerUnavailable: anvil does not start.
        """
        self._binary = self._binary or find_anvil()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.folder, error) from None
        self._lock.acquire()
        try:
            self._settings()
            self.journal = TransactionLog(self.folder / "transactions.jsonl")
            self._launch()
            self._filter = RpcFilter(
                lambda: self._anvil_port, self.submit, host=self._host, port=self._port
            )
            self._port = self._filter.port  # a restart keeps the address
        except BaseException:
            self.stop()
            raise
        atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """Stop everything; anvil dumps its state, whose digest is noted. Safe to call twice."""
        atexit.unregister(self.stop)
        if self._filter is not None:
            self._filter.close()
            self._filter = None
        if self._process is not None:
            with self._sending:
                end(self._process)
                self._process = None
            self._note_state()
        if hasattr(self, "journal"):
            self.journal.close()
        self._lock.release()

    def restart(self) -> None:
        """Start anvil anew behind the same address, after it died or to reload its state."""
        with self._sending:
            if self._process is not None:
                end(self._process)
            self._launch()

    @property
    def url(self) -> str:
        """The address to give to parties: the allow-list's."""
        if self._filter is None:
            raise LedgerUnavailable("the node is not running")
        return f"http://{self._filter.host}:{self._filter.port}"

    @property
    def pid(self) -> int:
        """The anvil process."""
        if self._process is None:
            raise LedgerUnavailable("the node is not running")
        return self._process.pid

    def alive(self) -> bool:
        """Say whether anvil runs."""
        return self._process is not None and self._process.poll() is None

    def admin(self, method: str, *params: object) -> Any:
        """Call any method of anvil, past the allow-list: for its owner and for tests only.

        Raises:
            LedgerUnavailable: anvil does not answer.
            ConfigError: anvil answers with an error.
        """
        upstream = Upstream(self._anvil_port)
        try:
            return upstream.call(method, *params)
        except NodeDown as error:
            raise LedgerUnavailable(f"anvil does not answer {method}") from error
        except ValueError as error:
            raise ConfigError(str(error)) from None
        finally:
            upstream.close()

    # ---- transactions ----

    def submit(self, raw: bytes) -> Record:
        """Journal, forward and await one raw transaction; return a JSON-RPC result or error.

        One at a time, so that each has its own block and the journal's order is the chain's. The
        sender hears of it only once its block time and effects are on the disk. Sending the same
        bytes again is harmless.

        Raises:
            NodeDown: anvil does not answer; the transaction is journalled and sent on restart.
        """
        with self._sending:
            tx_hash = keccak(raw)
            known = self.journal.get(tx_hash)
            if known is None or known.mined is None:
                self.journal.signed(raw)
                refused = self._forward(raw, tx_hash)
                if refused is not None:
                    self.journal.rejected(tx_hash, str(refused.get("message", "")))
                    return {"error": refused}
        return {"result": to_hex(tx_hash)}

    def _forward(self, raw: bytes, tx_hash: bytes) -> Record | None:
        """Send and await one transaction; return anvil's error where it refuses."""
        with AnvilNode(self._anvil_port) as node:
            with step("broadcast", f"{self.folder}/{to_hex(tx_hash)}"):
                refused = node.send(raw)
            if refused is not None:
                return dict(failure(None, -32000, refused)["error"])
            deadline = time.monotonic() + _MINING
            while time.monotonic() < deadline:
                mined = node.look_up(tx_hash)
                if mined is not None:
                    self.journal.mined(mined)
                    return None
                time.sleep(0.001)
                if node.waits(tx_hash):
                    # A gap in the nonces would be mined later, unjournalled: better never.
                    node.drop(tx_hash)
                    return dict(failure(None, -32000, "nonce too high")["error"])
        raise NodeDown("the transaction was not mined")

    # ---- starting ----

    @property
    def _state(self) -> Path:
        return self.folder / "anvil-state.json"

    def _settings(self) -> None:
        """Read or write ``node.json``, which fixes the genesis block's time."""
        path = self.folder / "node.json"
        if not path.exists():
            self._genesis = int(time.time())
            self._write_settings(None)
            return
        try:
            record = parse_json(read_bounded(path, 1 << 16), 1 << 16)
            if not isinstance(record, dict) or record.get("format") != FORMAT:
                raise ConfigError(f"{path} is not the description of a node")
            chain_id, self._genesis = int(record["chain_id"]), int(record["genesis_time"])
        except (CodecError, KeyError, ValueError, TypeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from None
        if chain_id != self.chain_id:
            raise ConfigError(f"the chain in {self.folder} has the id {chain_id}")

    def _write_settings(self, digest: str | None) -> None:
        record = {
            "format": FORMAT,
            "chain_id": self.chain_id,
            "genesis_time": self._genesis,
            "state_sha256": digest,
        }
        atomic_write(self.folder / "node.json", canonical_json(record) + b"\n")

    def _note_state(self) -> None:
        if self._state.exists():
            with self._state.open("rb") as stream:
                self._write_settings(hashlib.file_digest(stream, "sha256").hexdigest())

    def _launch(self) -> None:
        """Start anvil; where its dump is damaged, start from nothing: the journal holds all."""
        plan = AnvilPlan(
            binary=self._binary or find_anvil(),
            folder=self.folder,
            state=self._state,
            chain_id=self.chain_id,
            genesis_time=self._genesis,
            startup=self._startup,
        )
        started = run_anvil(plan)
        if started is None and self._state.exists():
            for older in self.folder.glob("anvil-state.damaged-*.json"):
                remove(older)  # each is as large as the chain: one is enough to look at
            with step("rename", self._state):
                self._state.rename(self.folder / f"anvil-state.damaged-{time.time_ns()}.json")
            started = run_anvil(plan)
        if started is None:
            raise LedgerUnavailable(f"anvil does not start; see {self.folder / 'anvil.log'}")
        self._process, self._anvil_port = started
        try:
            self._restore()
        except NodeDown as error:
            raise LedgerUnavailable(f"anvil ended while its chain was restored: {error}") from error

    def _restore(self) -> None:
        """Replay what the dump lacks, each block at its own time; then set the clock right."""
        with AnvilNode(self._anvil_port) as node:
            self.journal.replay(node, warp=lambda at: self.admin("evm_setNextBlockTimestamp", at))
        # "--timestamp" also turns the clock back to genesis; the newest block bounds it from below.
        latest = int(self.admin("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        self.admin("anvil_setTime", max(int(time.time()), latest))
