from __future__ import annotations

import string
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st
from web3.exceptions import ContractCustomError, Web3RPCError

from contracts.artefact import load_artefact
from ledger.chain_errors import SENTENCES, RevertDecoder, revert_data
from ledger.errors import AlreadyCommitted, ContractError, WrongPhase, by_name
from ledger.statement import Phase

DECODER = RevertDecoder(load_artefact().abi)
ERRORS = {item["name"]: item for item in load_artefact().abi if item["type"] == "error"}
LIBRARY = {"SafeCastOverflowedUintDowncast"}
VALUES: dict[str, Any] = {
    "address": "0x" + "ab" * 20,
    "bytes32": bytes(range(32)),
    "string": "weight",
    "uint8": 2,
}


def data_of(name: str) -> bytes:
    types = [field["type"] for field in ERRORS[name]["inputs"]]
    selector = keccak(f"{name}({','.join(types)})".encode())[:4]
    return selector + encode(types, [VALUES.get(kind, 77) for kind in types])


@pytest.mark.parametrize("name", sorted(ERRORS.keys() - LIBRARY))
def test_each_of_the_contracts_errors_has_a_class_and_a_sentence(name: str) -> None:
    expected = by_name(name)
    assert expected is not None
    assert issubclass(expected, ContractError)
    error = DECODER.decode(data_of(name))
    assert type(error) is expected
    assert list(error.arguments) == [field["name"] for field in ERRORS[name]["inputs"]]
    assert "{" not in str(error)
    named = {field for _, field, _, _ in string.Formatter().parse(SENTENCES[name]) if field}
    assert named <= set(error.arguments)


def test_no_sentence_without_its_error() -> None:
    assert set(SENTENCES) == ERRORS.keys() - LIBRARY


def test_an_error_of_a_library_is_not_lost() -> None:
    error = DECODER.decode(data_of("SafeCastOverflowedUintDowncast"))
    assert type(error) is ContractError
    assert "SafeCastOverflowedUintDowncast" in str(error)


def test_arguments_are_typed() -> None:
    error = DECODER.decode(data_of("WrongPhase"))
    assert isinstance(error, WrongPhase)
    assert error.arguments == {"phase": Phase.ATTESTING}
    assert str(error) == "the round is attesting"
    committed = DECODER.decode(data_of("AlreadyCommitted"))
    assert isinstance(committed, AlreadyCommitted)
    assert str(committed.arguments["sender"]).startswith("0x")
    assert str(committed.arguments["sender"]) != str(committed.arguments["sender"]).lower()


def test_soliditys_own_reverts() -> None:
    text = keccak(b"Error(string)")[:4] + encode(["string"], ["no"])
    panic = keccak(b"Panic(uint256)")[:4] + encode(["uint256"], [0x11])
    assert "no" in str(DECODER.decode(text))
    assert "0x11" in str(DECODER.decode(panic))
    assert "without a reason" in str(DECODER.decode(b""))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_error(data: bytes) -> None:
    assert isinstance(DECODER.decode(data), ContractError)


@given(st.sampled_from(sorted(ERRORS)), st.integers(0, 200))
def test_cut_data_is_an_error(name: str, cut: int) -> None:
    assert isinstance(DECODER.decode(data_of(name)[: 4 + cut]), ContractError)


class TransactionFailed(Exception):
    """Named as eth-tester's."""


def rpc_error(error: Any) -> Web3RPCError:
    response: Any = {"jsonrpc": "2.0", "id": 1, "error": error}
    return Web3RPCError("x", rpc_response=response)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ContractCustomError("reverted", data="0xbeef"), b"\xbe\xef"),
        (TransactionFailed("execution reverted: b'\\xbe\\xef'"), b"\xbe\xef"),
        (TransactionFailed(b"\xbe\xef"), b"\xbe\xef"),
        (TransactionFailed("b'broken"), b""),
        (TransactionFailed("b'x' + exit()"), b""),
        (rpc_error({"code": 3, "data": "0xbeef"}), b"\xbe\xef"),
        (rpc_error({"code": 3, "message": "reverted"}), b""),
        (rpc_error({"code": 1, "message": "busy"}), None),
        (ValueError("x"), None),
    ],
)
def test_revert_bytes_are_found_where_each_node_puts_them(
    error: Exception, expected: bytes | None
) -> None:
    assert revert_data(error) == expected
