"""Collects a chain record: from a node by JSON-RPC, or from an in-process EVM.

What a node answers is turned back into the bytes that were hashed (headers, transactions, receipts)
and compared with the hashes at once, so that a record which cannot be checked later is never
written. Only read methods are used: they pass the managed node's allow-list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import rlp
from eth_utils.crypto import keccak
from web3 import Web3

from ledger.anchors import Anchors
from ledger.chain_bytes import HEADER_FIELDS, parse_header
from ledger.errors import BundleInvalid, LedgerUnavailable
from ledger.facts import AccountProof, BlockRecord, ChainRecord

MAX_BLOCKS = 1 << 20
_FIXED = {
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "extraData",
    "mixHash",
    "nonce",
    "withdrawalsRoot",
    "parentBeaconBlockRoot",
    "requestsHash",
}


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _int(value: str | int) -> int:
    return value if isinstance(value, int) else int(value, 16)


def _call(web3: Web3, method: str, params: list[object]) -> Any:
    try:
        answer = web3.provider.make_request(method, params)  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001 - every transport has its own
        raise LedgerUnavailable(f"the chain does not answer {method}: {error}") from None
    if answer.get("error") or answer.get("result") is None:
        raise BundleInvalid(f"the node does not give {method}: {answer.get('error')}")
    return answer["result"]


def header_bytes(block: Mapping[str, Any]) -> bytes:
    """Return the RLP of a header as JSON-RPC (or a state file) spells it."""
    names = [name for name in HEADER_FIELDS if block.get(name) is not None]
    values = [_bytes(block[name]) if name in _FIXED else _int(block[name]) for name in names]
    return bytes(rlp.encode(values))


def receipt_bytes(receipt: Mapping[str, Any]) -> bytes:
    """Return the network encoding (EIP-2718) of a receipt."""
    logs = [
        [_bytes(log["address"]), [_bytes(topic) for topic in log["topics"]], _bytes(log["data"])]
        for log in receipt["logs"]
    ]
    fields = [
        _int(receipt["status"]),
        _int(receipt["cumulativeGasUsed"]),
        _bytes(receipt["logsBloom"]),
        logs,
    ]
    kind = _int(receipt.get("type", "0x0"))
    return (bytes([kind]) if kind else b"") + bytes(rlp.encode(fields))


def transaction_bytes(sent: Mapping[str, Any]) -> bytes:
    """Return the signed bytes of a legacy or EIP-1559 transaction from its JSON form."""
    to, kind = sent.get("to"), _int(sent.get("type", "0x0"))
    middle = [_bytes(to) if to else b"", _int(sent["value"]), _bytes(sent["input"])]
    nonce, gas = _int(sent["nonce"]), _int(sent["gas"])
    r, s = _int(sent["r"]), _int(sent["s"])
    if kind == 0:
        fields = [nonce, _int(sent["gasPrice"]), gas, *middle, _int(sent["v"]), r, s]
        return bytes(rlp.encode(fields))
    access = [
        [_bytes(entry["address"]), [_bytes(key) for key in entry["storageKeys"]]]
        for entry in sent.get("accessList") or []
    ]
    fees = [_int(sent["maxPriorityFeePerGas"]), _int(sent["maxFeePerGas"])]
    parity = _int(sent.get("yParity", sent["v"]))
    fields = [_int(sent["chainId"]), nonce, *fees, gas, *middle, access, parity, r, s]
    return b"\x02" + bytes(rlp.encode(fields))


def _block(web3: Web3, number: int) -> BlockRecord:
    found = _call(web3, "eth_getBlockByNumber", [hex(number), True])
    header = header_bytes(found)
    if keccak(header) != _bytes(found["hash"]):
        raise BundleInvalid(
            f"block {number}: this node's block hash is not that of its header, so its history"
            " cannot be checked offline"
        )
    transactions, receipts = [], []
    for sent in found["transactions"]:
        raw = transaction_bytes(sent)
        if keccak(raw) != _bytes(sent["hash"]):
            raise BundleInvalid(f"block {number} holds a transaction of an unknown kind")
        transactions.append(raw)
        receipts.append(receipt_bytes(_call(web3, "eth_getTransactionReceipt", [sent["hash"]])))
    return BlockRecord(header=header, transactions=tuple(transactions), receipts=tuple(receipts))


def _proof(web3: Web3, contract: str, block: str) -> AccountProof | None:
    try:
        found = _call(web3, "eth_getProof", [contract, [], block])
    except BundleInvalid:
        return None  # not every node serves proofs; the audit says what is then unchecked
    return AccountProof(
        nodes=tuple(_bytes(node) for node in found["accountProof"]),
        nonce=_int(found["nonce"]),
        balance=_int(found["balance"]),
        storage_root=_bytes(found["storageHash"]),
        code_hash=_bytes(found["codeHash"]),
    )


def collect_rpc(
    web3: Web3,
    anchors: Anchors,
    *,
    track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> ChainRecord:
    """Collect a whole chain from a node.

    Args:
        web3: any node of the chain (read methods only).
        anchors: name the contract.
        track: wraps the block numbers, to show progress.

    Raises:
        LedgerUnavailable: the node cannot be reached.
        BundleInvalid: its answers do not hash to what they claim, or it is too long a chain.
    """
    last = _int(_call(web3, "eth_blockNumber", []))
    if last >= MAX_BLOCKS:
        raise BundleInvalid(f"{last} blocks are over the bound of {MAX_BLOCKS} of one bundle")
    blocks = tuple(_block(web3, number) for number in track(range(last + 1)))
    at = hex(last)
    return ChainRecord(
        blocks=blocks,
        code=_bytes(_call(web3, "eth_getCode", [anchors.contract, at])),
        proof=_proof(web3, anchors.contract, at),
    )


def collect_backend(backend: Any, anchors: Anchors) -> ChainRecord:
    """Collect a whole chain from eth-tester's py-evm backend (the in-memory federation)."""
    chain = backend.chain
    head = chain.get_canonical_head()
    blocks = []
    for number in range(head.block_number + 1):
        block = chain.get_canonical_block_by_number(number)
        vm = chain.get_vm(block.header)
        receipts = block.get_receipts(vm.chaindb)
        blocks.append(
            BlockRecord(
                header=bytes(rlp.encode(block.header)),
                transactions=tuple(bytes(sent.encode()) for sent in block.transactions),
                receipts=tuple(bytes(receipt.encode()) for receipt in receipts),
            )
        )
    state = chain.get_vm(head).state
    address = _bytes(anchors.contract)
    root = parse_header(blocks[-1].header).state_root
    return ChainRecord(
        blocks=tuple(blocks),
        code=bytes(state.get_code(address)),
        proof=_backend_proof(chain, state, address, root),
    )


def _backend_proof(chain: Any, state: Any, address: bytes, root: bytes) -> AccountProof:
    from trie.hexary import HexaryTrie

    trie: Any = HexaryTrie(chain.chaindb.db, root)
    nodes = tuple(bytes(rlp.encode(node)) for node in trie.get_proof(keccak(address)))
    account = rlp.decode(trie[keccak(address)])
    nonce, balance = (int.from_bytes(value, "big") for value in account[:2])
    return AccountProof(
        nodes=nodes,
        nonce=nonce,
        balance=balance,
        storage_root=account[2],
        code_hash=keccak(bytes(state.get_code(address))),
    )
