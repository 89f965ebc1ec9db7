"""Private keys at rest: Ethereum keystores and sealing keys, encrypted and readable by one user.

Passwords come from a file or the environment, never from an argument that a process list shows.
Cost parameters read from a file are bounded before they are spent.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from eth_account import Account
from eth_account.signers.local import LocalAccount

from ledger.canonical import canonical_json, parse_json, sha256
from ledger.errors import (
    BadKey,
    CodecError,
    EvidenceErased,
    InvalidStatement,
    KeyLocked,
    OutputError,
    StaleKey,
)
from ledger.files import atomic_write, sync_folder
from ledger.private import MAX_PRIVATE, check_private, read_password, read_private
from ledger.seal import SealKey, key_from_seed, key_id
from ledger.steps import step

__all__ = [
    "SCRYPT_N",
    "SCRYPT_N_SIMULATION",
    "StoredSealKey",
    "check_private",
    "create_account",
    "destroy_seal_key",
    "load_account",
    "load_seal_key",
    "read_password",
    "read_private",
    "retire_seal_key",
    "save_seal_key",
]

SCRYPT_N = 1 << 18
"""Default cost: about a second and 256 MiB. A simulation may use ``SCRYPT_N_SIMULATION``."""
SCRYPT_N_SIMULATION = 1 << 4
MAX_SCRYPT_N = 1 << 20
_MAX_PBKDF2 = 10_000_000
_SEAL_FORMAT = "thoracle/seal-key/v1"
_TOMBSTONE_FORMAT = "thoracle/erased-key/v1"


@dataclass(frozen=True, kw_only=True)
class StoredSealKey:
    """A sealing key as it was stored: its epoch, and whether it is retired from new rounds."""

    epoch: int
    retired: bool
    key: SealKey = field(repr=False)


def _check_cost(n: object, limit: int) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= limit:
        raise BadKey(f"a key file asks for a cost of {str(n)[:40]}, over the bound of {limit}")
    return n


def _document(path: Path) -> dict[str, object]:
    data = read_private(path)
    try:
        value = parse_json(data, MAX_PRIVATE)
    except CodecError as error:
        raise BadKey(f"{path} is not a key file: {error}") from None
    if not isinstance(value, dict):
        raise BadKey(f"{path} is not a key file")
    return value


def create_account(path: Path, password: str, *, scrypt_n: int = SCRYPT_N) -> LocalAccount:
    """Create an Ethereum account and its keystore (Web3 Secret Storage, version 3), mode 0600.

    Args:
        path: the keystore to write; never an existing file.
        password: what it is encrypted under.
        scrypt_n: cost, a power of two.

    Raises:
        OutputError: the file exists or cannot be written.
    """
    _refuse_existing(path)
    account: LocalAccount = Account.from_key(secrets.token_bytes(32))
    document = Account.encrypt(account.key, password, kdf="scrypt", iterations=scrypt_n)
    atomic_write(path, canonical_json(document), mode=0o600)
    return account


def load_account(path: Path, password: str) -> LocalAccount:
    """Return the account of a keystore.

    Raises:
        EvidenceMissing, InsecureKeyFile: as ``check_private``.
        BadKey: not a keystore, or one that asks for an unbounded cost.
        KeyLocked: another password.
    """
    document = _document(path)
    _check_keystore(path, document)
    try:
        account: LocalAccount = Account.from_key(Account.decrypt(document, password))
    except ValueError as error:
        if "MAC" in str(error):
            raise KeyLocked(f"{path} does not open with this password") from None
        raise BadKey(f"{path} is not a keystore: {error}") from None
    except (LookupError, TypeError, AttributeError, NotImplementedError) as error:
        raise BadKey(f"{path} is not a keystore: {error!r}") from None
    named = document.get("address")
    if (
        not isinstance(named, str)
        or named.lower().removeprefix("0x") != account.address[2:].lower()
    ):
        raise BadKey(f"{path} holds the key of another address than it names")
    return account


def _check_keystore(path: Path, document: dict[str, object]) -> None:
    """Bound every cost the file asks for, before the library spends it."""
    match document:
        case {
            "version": 3,
            "crypto": {"cipher": "aes-128-ctr", "kdfparams": {"dklen": 32, **params}},
        }:
            pass
        case _:
            raise BadKey(f"{path} is not a keystore of version 3")
    if "n" in params:
        _check_cost(params["n"], MAX_SCRYPT_N)
        _check_cost(params.get("r"), 8)
        _check_cost(params.get("p"), 8)
    else:
        _check_cost(params.get("c"), _MAX_PBKDF2)


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise OutputError(f"{path} exists; a key is never overwritten")


def _tombstone(path: Path) -> Path:
    return path.with_name(path.name + ".erased")


def _retirement(path: Path) -> Path:
    return path.with_name(path.name + ".retired")


def _wrap_key(password: str, salt: bytes, n: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=n, r=8, p=1).derive(password.encode("utf-8"))


def _binding(document: dict[str, object]) -> bytes:
    """Everything of a sealing-key file but its ciphertext is authenticated with it."""
    return canonical_json({k: v for k, v in document.items() if k != "ciphertext"})


def save_seal_key(
    path: Path, key: SealKey, password: str, *, epoch: int, scrypt_n: int = SCRYPT_N
) -> None:
    """Write a sealing key: its 96-byte seed under scrypt (RFC 7914) and AES-256-GCM, mode 0600.

    Raises:
        OutputError: the file exists or cannot be written.
        EvidenceErased: a key of this name was destroyed before.
        BadKey: the cost is over its bound.
        InvalidStatement: the epoch is not an unsigned integer of 32 bits.
    """
    _refuse_existing(path)
    _refuse_erased(path)
    if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch < 1 << 32:
        raise InvalidStatement(f"a key epoch is an unsigned integer of 32 bits, not {epoch!r}")
    n = _check_cost(scrypt_n, MAX_SCRYPT_N)
    salt, nonce = secrets.token_bytes(32), secrets.token_bytes(12)
    document: dict[str, object] = {
        "format": _SEAL_FORMAT,
        "epoch": epoch,
        "key_id": key_id(key.public).hex(),
        "scrypt": {"n": n, "r": 8, "p": 1, "salt": salt.hex()},
        "nonce": nonce.hex(),
    }
    wrapping = AESGCM(_wrap_key(password, salt, n))
    document["ciphertext"] = wrapping.encrypt(nonce, key.seed, _binding(document)).hex()
    atomic_write(path, canonical_json(document), mode=0o600)


def load_seal_key(path: Path, password: str, *, for_new_round: bool = False) -> StoredSealKey:
    """Return a sealing key; a retired one only to read history.

    Raises:
        EvidenceErased: the key was destroyed after its retention, as its tombstone says.
        StaleKey: it is retired and ``for_new_round`` is set.
        EvidenceMissing, InsecureKeyFile: as ``check_private``.
        BadKey: not a sealing-key file.
        KeyLocked: another password, or the file was altered.
    """
    _refuse_erased(path)
    document = _document(path)
    retired = _retirement(path).exists()
    if for_new_round and retired:
        raise StaleKey(f"{path} is of a retired epoch: it opens history, not a new round")
    match document:
        case {
            "format": "thoracle/seal-key/v1",
            "epoch": int(epoch),
            "key_id": str(name),
            "scrypt": {"n": n, "r": 8, "p": 1, "salt": str(salt)},
            "nonce": str(nonce),
            "ciphertext": str(ciphertext),
        }:
            pass
        case _:
            raise BadKey(f"{path} is not a sealing-key file")
    cost = _check_cost(n, MAX_SCRYPT_N)
    try:
        wrapping = AESGCM(_wrap_key(password, bytes.fromhex(salt), cost))
        seed = wrapping.decrypt(bytes.fromhex(nonce), bytes.fromhex(ciphertext), _binding(document))
    except InvalidTag:
        raise KeyLocked(f"{path} does not open with this password") from None
    except ValueError as error:
        raise BadKey(f"{path} is not a sealing-key file: {error}") from None
    key = key_from_seed(seed)
    if key_id(key.public).hex() != name:
        raise BadKey(f"{path} holds another key than it names")
    return StoredSealKey(epoch=epoch, retired=retired, key=key)


def retire_seal_key(path: Path) -> None:
    """Retire a key from new rounds (a rotation, or a compromise); history still opens.

    Raises:
        EvidenceMissing: there is no such key.
        EvidenceErased: it was destroyed.
    """
    _refuse_erased(path)
    check_private(path)
    atomic_write(_retirement(path), b"retired\n", mode=0o600)


def destroy_seal_key(path: Path, *, reason: str, time: int) -> None:
    """Destroy a key after its retention and record that beside where it lay.

    The record comes first: a crash in between leaves a key that is no longer used, never a key
    that vanished without a trace. The file is overwritten before it is removed; on a journalling
    file system or flash this cannot promise that no copy is left, which is why it was encrypted.

    Args:
        path: the key file.
        reason: one line, for the auditor.
        time: Unix seconds.

    Raises:
        EvidenceMissing: there is no such key.
        EvidenceErased: it was destroyed before.
        OutputError: the record or the removal failed.
    """
    if not path.exists():
        _refuse_erased(path)
    if not _tombstone(path).exists():  # else a crash came between the record and the removal
        document = _document(path)
        record = {
            "format": _TOMBSTONE_FORMAT,
            "epoch": document.get("epoch"),
            "key_id": document.get("key_id"),
            "file_digest": sha256(read_private(path)).hex(),
            "reason": reason[:200],
            "time": time,
        }
        atomic_write(_tombstone(path), canonical_json(record))
    try:
        with step("remove", path):
            with path.open("r+b") as stream:
                stream.write(secrets.token_bytes(path.stat().st_size))
                stream.flush()
                os.fsync(stream.fileno())
            path.unlink()
            sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"cannot remove {path}: {error.strerror or error}") from None


def check_not_erased(path: Path) -> None:
    """Check that no tombstone stands beside a key file.

    Raises:
        EvidenceErased: the key was destroyed (or its removal was begun).
    """
    _refuse_erased(path)


def _refuse_erased(path: Path) -> None:
    tombstone = _tombstone(path)
    if tombstone.exists():
        raise EvidenceErased(f"the key {path.name} was destroyed, as {tombstone.name} records")
