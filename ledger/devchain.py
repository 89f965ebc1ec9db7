"""An in-process chain for tests and quick simulations: time travel, snapshots, no ether needed.

It is eth-tester over py-evm with one change: the genesis block's base fee is zero. A base fee only
rises when a block is more than half full (EIP-1559), which no transaction here makes it, so gas
stays free and hospitals sign with keys that hold nothing, as on the managed node. Each transaction
is mined at once, in a block at least one second after its parent. Not thread-safe, not durable;
its chain id is fixed by eth-tester.
"""

from __future__ import annotations

import logging
from typing import Any

from eth_tester import EthereumTester, PyEVMBackend
from web3 import EthereumTesterProvider, Web3


class DevChain:
    """One in-process chain."""

    def __init__(self) -> None:
        logging.getLogger("eth").setLevel(logging.WARNING)
        genesis = PyEVMBackend.generate_genesis_params()
        genesis["base_fee_per_gas"] = 0
        state = PyEVMBackend.generate_genesis_state(num_accounts=1)
        backend = PyEVMBackend(genesis_parameters=genesis, genesis_state=dict(state))
        self.tester: Any = EthereumTester(backend)
        self.web3 = Web3(EthereumTesterProvider(self.tester))

    def time(self) -> int:
        """Return the latest block's time, in Unix seconds."""
        return int(self.web3.eth.get_block("latest")["timestamp"])

    def clock(self) -> float:
        """Return the time of a block mined now; what witnesses on this chain call "now"."""
        return float(self.web3.eth.get_block("pending")["timestamp"])

    def travel(self, seconds: int) -> int:
        """Mine an empty block ``seconds`` after the latest one; return its time."""
        target = self.time() + max(seconds, 2)
        self.tester.time_travel(target)
        return self.time()

    def mine(self, blocks: int = 1) -> None:
        """Mine empty blocks."""
        self.tester.mine_blocks(blocks)

    def snapshot(self) -> int:
        """Remember this moment."""
        return int(self.tester.take_snapshot())

    def revert(self, snapshot: int) -> None:
        """Rewind to a snapshot; everything after it never happened."""
        self.tester.revert_to_snapshot(snapshot)

    def storage_root(self, address: str) -> bytes:
        """Return the root of an account's storage trie (eth-tester offers no ``eth_getProof``)."""
        chain = self.tester.backend.chain
        head = chain.get_canonical_block_by_number(self.web3.eth.block_number).header
        database = chain.get_vm(at_header=head).state._account_db  # noqa: SLF001 - no public way
        account = database._get_account(bytes.fromhex(address[2:]))  # noqa: SLF001
        return bytes(account.storage_root)
