"""From a revert's raw bytes to the error tree, with Solidity's own arguments.

A node reports a revert in its own way: an RPC error with a data field (anvil, geth, Besu), or, for
the in-process chain, an exception whose text is the ``repr`` of the bytes. Both end here.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import collapse_if_tuple
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from ledger.errors import ContractError, by_name
from ledger.statement import Phase

_ERROR_STRING = keccak(b"Error(string)")[:4]
_PANIC = keccak(b"Panic(uint256)")[:4]
_MAX_REVERT = 1 << 16

SENTENCES: Mapping[str, str] = {
    "NotMember": "{sender} is not an active member of the federation",
    "MemberRevoked": "the membership of {sender} was revoked from round {sinceRound} on",
    "AlreadyMember": "{subject} was enrolled before, and an address is enrolled only once",
    "AlreadyRegistered": "{sender} has already set its cap and weight",
    "AlreadyCommitted": "{sender} has already committed in round {round}",
    "AlreadyAnswered": "{sender} has already answered in round {round}",
    "AlreadyVoted": "{sender} has already voted on this ballot",
    "CommitWindowClosed": "the commit window of round {round} closed at {closedAt}; it is {time}",
    "CommitWindowOpen": "the commit window of round {round} stays open until {closesAt}; "
    "it is {time}",
    "AttestWindowClosed": "the attest window of round {round} closed at {closedAt}; it is {time}",
    "HeadMismatch": "the ledger's head is {expected}, not {given}",
    "BudgetExceeded": "the cumulative epsilon {given} is over the cap {cap} (micro-units)",
    "BudgetNotCharged": "the cumulative epsilon {given} does not fit after the {spent} already "
    "spent (micro-units)",
    "CapMayOnlyFall": "the cap {given} is not below the present one of {cap} (micro-units)",
    "RoundLive": "round {round} is live",
    "NotCoordinator": "{sender} is not the coordinator",
    "TooFewAccepted": "{accepted} accepted where {needed} are needed",
    "CommitUnaccounted": "accepted {accepted:#x} and refused {refused:#x} do not cover the "
    "commits {committed:#x} exactly once",
    "ParentMismatch": "the last final model is {expected}, not {given}",
    "WrongPhase": "the round is {phase}",
    "NotAccepted": "{sender} was not accepted in round {round}",
    "NotRefused": "{sender} was not refused in round {round}",
    "AttestationsMissing": "accepted are {accepted:#x}, but attested only {attested:#x}",
    "RoundClosed": "round {round} is not live",
    "RoundFinalisable": "round {round} can be finalised, so it may not be aborted",
    "VotesMissing": "{votes} votes where {needed} are needed",
    "NormCapExceeded": "the probes of seat {seat} have a sum of squares of {sumOfSquares}, "
    "over the cap {cap}",
    "WeightOverflow": "the weight {weight} is over the bound {max}",
    "DeadlineNotPassed": "the deadline {deadline} has not passed; it is {time}",
    "InvalidArgument": "the argument {what} is outside its range",
}
"""The sentence of each of Solidity's errors; the placeholders are its arguments."""


class RevertDecoder:
    """Turns revert bytes into the `ContractError` subclass of the contract's own name."""

    def __init__(self, abi: Sequence[Mapping[str, Any]]) -> None:
        self._errors: dict[bytes, tuple[str, list[str], list[str]]] = {}
        for item in abi:
            if item.get("type") == "error":
                types = [collapse_if_tuple(field) for field in item["inputs"]]
                names = [field["name"] for field in item["inputs"]]
                selector = keccak(f"{item['name']}({','.join(types)})".encode())[:4]
                self._errors[selector] = (item["name"], types, names)

    def decode(self, data: bytes) -> ContractError:
        """Return the error that ``data`` (selector and ABI-encoded arguments) stands for.

        Unknown or damaged data still give a `ContractError`: a revert is never lost.
        """
        if not data:
            return ContractError("the contract reverted without a reason")
        known = self._errors.get(data[:4])
        try:
            if known is not None:
                return self._named(*known, data[4:])
            if data[:4] == _ERROR_STRING:
                return ContractError(
                    f"the contract reverted: {abi_decode(['string'], data[4:])[0]}"
                )
            if data[:4] == _PANIC:
                code = abi_decode(["uint256"], data[4:])[0]
                return ContractError(f"the contract stopped with Solidity's panic {code:#x}")
        except (DecodingError, OverflowError):
            pass  # reported below, with the bytes
        return ContractError(f"the contract reverted with the unknown data 0x{data[:68].hex()}")

    def _named(
        self, name: str, types: list[str], names: list[str], payload: bytes
    ) -> ContractError:
        values = dict(zip(names, abi_decode(types, payload), strict=True))
        for key, kind in zip(names, types, strict=True):
            if kind == "address":
                values[key] = to_checksum_address(values[key])
        if "phase" in values:
            values["phase"] = Phase(values["phase"])
        found = by_name(name)
        if found is None or not issubclass(found, ContractError):
            return ContractError(f"the contract reverted with {name}{tuple(values.values())}")
        shown = {key: _printable(value) for key, value in values.items()}
        return found(SENTENCES[name].format(**shown) if name in SENTENCES else "", **values)


def _printable(value: object) -> object:
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    return value.name.lower() if isinstance(value, Phase) else value


def revert_data(error: BaseException) -> bytes | None:
    """Return the revert bytes that ``error`` carries, or None if it is not a revert.

    Understands web3's ``ContractLogicError`` (its ``data``), JSON-RPC errors with a data field,
    and eth-tester's ``TransactionFailed``, which holds the bytes or their Python ``repr``.
    """
    data = getattr(error, "data", None)
    if isinstance(data, str) and data.startswith("0x"):
        return _hex(data)
    response = getattr(error, "rpc_response", None)
    if isinstance(response, dict) and isinstance(response.get("error"), dict):
        data = response["error"].get("data")
        if isinstance(data, dict):  # some nodes wrap it once more
            data = data.get("data") or data.get("result")
        if isinstance(data, str) and data.startswith("0x"):
            return _hex(data)
        if "revert" in str(response["error"].get("message", "")).lower():
            return b""
        return None
    if type(error).__name__ == "TransactionFailed":  # eth_tester's, without importing it here
        return _tester_bytes(error.args[0] if error.args else b"")
    return b"" if type(error).__name__.startswith("Contract") else None


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text[2 : 2 + 2 * _MAX_REVERT])
    except ValueError:
        return b""


def _tester_bytes(reason: object) -> bytes:
    if isinstance(reason, BaseException):
        reason = reason.args[0] if reason.args else b""
    if isinstance(reason, bytes):
        return reason
    text = str(reason).removeprefix("execution reverted: ")
    if len(text) <= 4 * _MAX_REVERT and text[:2] in ("b'", 'b"'):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return b""
        return value if isinstance(value, bytes) else b""
    return b""
