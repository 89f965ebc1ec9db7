"""Keys at rest: closed to others, locked, bounded, retired and erased with a record."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.canonical import sha256
from ledger.errors import (
    BadKey,
    ConfigError,
    EvidenceErased,
    EvidenceMissing,
    InsecureKeyFile,
    InvalidStatement,
    KeyLocked,
    OutputError,
    OversizeUpdate,
    SealingError,
    StaleKey,
    ThoracleError,
)
from ledger.keys import (
    create_account,
    destroy_seal_key,
    load_account,
    load_seal_key,
    read_password,
    read_private,
    retire_seal_key,
    save_seal_key,
)
from ledger.seal import key_from_seed, key_id, seal, unseal
from tests.ledger.samples import CONTEXT

N = 16  # a cheap scrypt: these tests are about files, not about the cost of guessing
KEY = key_from_seed(bytes(range(96)))


def test_an_account_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "hospital.json"
    account = create_account(path, "pass word é", scrypt_n=N)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_account(path, "pass word é").key == account.key
    document = json.loads(path.read_bytes())
    assert document["version"] == 3
    assert document["crypto"]["kdf"] == "scrypt"
    assert bytes(account.key).hex() not in path.read_text()


def test_accounts_differ(tmp_path: Path) -> None:
    a = create_account(tmp_path / "a", "x", scrypt_n=N)
    b = create_account(tmp_path / "b", "x", scrypt_n=N)
    assert a.address != b.address


def test_wrong_keystore_password(tmp_path: Path) -> None:
    create_account(tmp_path / "a", "right", scrypt_n=N)
    with pytest.raises(KeyLocked) as caught:
        load_account(tmp_path / "a", "guess")
    assert "guess" not in str(caught.value)
    save_seal_key(tmp_path / "s", KEY, "right", epoch=1, scrypt_n=N)
    with pytest.raises(KeyLocked):
        load_seal_key(tmp_path / "s", "guess")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601, 0o620])
def test_world_readable_key(tmp_path: Path, mode: int) -> None:
    create_account(tmp_path / "a", "x", scrypt_n=N)
    save_seal_key(tmp_path / "s", KEY, "x", epoch=1, scrypt_n=N)
    (tmp_path / "a").chmod(mode)
    (tmp_path / "s").chmod(mode)
    with pytest.raises(InsecureKeyFile, match="chmod 600"):
        load_account(tmp_path / "a", "x")
    with pytest.raises(InsecureKeyFile):
        load_seal_key(tmp_path / "s", "x")


def test_a_link_or_a_folder_is_no_key_file(tmp_path: Path) -> None:
    create_account(tmp_path / "a", "x", scrypt_n=N)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(InsecureKeyFile, match="plain file"):
        load_account(tmp_path / "link", "x")
    with pytest.raises(InsecureKeyFile):
        load_account(tmp_path, "x")
    with pytest.raises(EvidenceMissing):
        load_account(tmp_path / "none", "x")


def test_a_file_swapped_after_the_check_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_account(tmp_path / "a", "x", scrypt_n=N)
    (tmp_path / "open").write_bytes((tmp_path / "a").read_bytes())
    (tmp_path / "open").chmod(0o644)
    monkeypatch.setattr("ledger.private.check_private", lambda _: None)
    with pytest.raises(InsecureKeyFile):
        load_account(tmp_path / "open", "x")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(EvidenceMissing):
        load_account(tmp_path / "link", "x")


def test_the_default_cost_is_the_one_of_geth(tmp_path: Path) -> None:
    create_account(tmp_path / "a", "x")
    assert json.loads((tmp_path / "a").read_bytes())["crypto"]["kdfparams"]["n"] == 2**18


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    create_account(tmp_path / "a", "x", scrypt_n=N)
    before = (tmp_path / "a").read_bytes()
    with pytest.raises(OutputError):
        create_account(tmp_path / "a", "x", scrypt_n=N)
    with pytest.raises(OutputError):
        save_seal_key(tmp_path / "a", KEY, "x", epoch=1, scrypt_n=N)
    assert (tmp_path / "a").read_bytes() == before


def edit(path: Path, change: dict[str, Any]) -> None:
    document = json.loads(path.read_bytes())
    for dotted, value in change.items():
        *parents, name = dotted.split(".")
        inner = document
        for parent in parents:
            inner = inner[parent]
        if value is None:
            del inner[name]
        else:
            inner[name] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 4},
        {"crypto": None},
        {"crypto.kdfparams": None},
        {"crypto.kdfparams.n": 2**40},
        {"crypto.kdfparams.n": 2**20 + 1},
        {"crypto.kdfparams.n": True},
        {"crypto.kdfparams.r": 10**9},
        {"crypto.kdfparams.p": 10**9},
        {"crypto.kdfparams.dklen": 10**12},
        {"crypto.kdfparams.dklen": 16},
        {"crypto.kdf": "argon"},
        {"crypto.kdf": "pbkdf2"},
        {"crypto.kdfparams": {"c": 10**12, "dklen": 32, "prf": "hmac-sha256", "salt": "00"}},
        {"crypto.cipher": "des"},
        {"crypto.ciphertext": "zz"},
        {"crypto.mac": 5},
        {"address": "00" * 20},
        {"address": None},
    ],
    ids=str,
)
def test_a_bad_keystore_is_named_and_costs_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "a"
    create_account(path, "x", scrypt_n=N)
    edit(path, change)
    with pytest.raises(SealingError) as caught:
        load_account(path, "x")
    assert type(caught.value) is BadKey


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"{", b"\x80\x04", b'{"a":1,"a":2}'])
def test_what_is_no_key_file_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(BadKey):
        load_account(path, "x")
    with pytest.raises(BadKey):
        load_seal_key(path, "x")


def test_a_key_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(1 << 17))
    path.chmod(0o600)
    with pytest.raises(OversizeUpdate):
        load_account(path, "x")


# ---- sealing keys ----


def test_a_sealing_key_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "epoch-3.json"
    save_seal_key(path, KEY, "x", epoch=3, scrypt_n=N)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = load_seal_key(path, "x", for_new_round=True)
    assert (found.epoch, found.retired, found.key) == (3, False, KEY)
    sealed = seal(b"m", [KEY.public], CONTEXT)
    assert unseal(sealed, found.key, CONTEXT) == b"m"
    assert KEY.seed.hex() not in path.read_text()
    assert KEY.seed.hex() not in repr(found)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"epoch": 4}, KeyLocked),  # the epoch is authenticated with the seed
        ({"key_id": "00" * 32}, KeyLocked),
        ({"scrypt.n": 32}, KeyLocked),
        ({"scrypt.salt": "00" * 32}, KeyLocked),
        ({"ciphertext": "00" * 112}, KeyLocked),
        ({"extra": 1}, KeyLocked),
        ({"scrypt.n": 2**30}, BadKey),
        ({"scrypt.n": 15}, BadKey),
        ({"scrypt.r": 1024}, BadKey),
        ({"format": "thoracle/seal-key/v2"}, BadKey),
        ({"nonce": "0"}, BadKey),
        ({"nonce": "00"}, BadKey),
        ({"ciphertext": ""}, KeyLocked),
        ({"epoch": "3"}, BadKey),
        ({"epoch": True}, KeyLocked),
        ({"epoch": -1}, KeyLocked),
    ],
    ids=str,
)
def test_an_altered_sealing_key_does_not_open(
    tmp_path: Path, change: dict[str, Any], error: type[ThoracleError]
) -> None:
    path = tmp_path / "s"
    save_seal_key(path, KEY, "x", epoch=3, scrypt_n=N)
    edit(path, change)
    with pytest.raises(ThoracleError) as caught:
        load_seal_key(path, "x")
    assert type(caught.value) is error


@settings(deadline=None, max_examples=80)
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), account=st.booleans())
def test_a_changed_byte_is_a_named_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory,
    at: float,
    flip: int,
    account: bool,
) -> None:
    path = tmp_path_factory.mktemp("keys") / "k"
    address = create_account(path, "x", scrypt_n=2).address if account else ""
    if not account:
        save_seal_key(path, KEY, "x", epoch=3, scrypt_n=2)
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= flip
    path.write_bytes(data)
    try:
        # The keystore's id means nothing, so a load may also succeed: with the same key.
        found = load_account(path, "x").address if account else load_seal_key(path, "x").key
    except SealingError:
        return
    assert found == (address if account else KEY)


@pytest.mark.parametrize("epoch", [-1, 2**32, True, 1.0])
def test_an_epoch_is_32_bits(tmp_path: Path, epoch: int) -> None:
    with pytest.raises(InvalidStatement):
        save_seal_key(tmp_path / "s", KEY, "x", epoch=epoch, scrypt_n=N)


def test_compromised_then_rotated(tmp_path: Path) -> None:
    old = tmp_path / "epoch-1"
    save_seal_key(old, KEY, "x", epoch=1, scrypt_n=N)
    history = seal(b"history", [KEY.public], CONTEXT)
    retire_seal_key(old)
    retire_seal_key(old)  # twice is once
    with pytest.raises(StaleKey):
        load_seal_key(old, "x", for_new_round=True)
    found = load_seal_key(old, "x")
    assert found.retired
    assert unseal(history, found.key, CONTEXT) == b"history"
    with pytest.raises(EvidenceMissing):
        retire_seal_key(tmp_path / "epoch-9")


def test_evidence_erased_is_not_evidence_missing(tmp_path: Path) -> None:
    path = tmp_path / "epoch-1"
    with pytest.raises(EvidenceMissing):
        load_seal_key(path, "x")
    with pytest.raises(EvidenceMissing):
        destroy_seal_key(path, reason="retention", time=1)
    save_seal_key(path, KEY, "x", epoch=1, scrypt_n=N)
    digest = sha256(path.read_bytes())
    destroy_seal_key(path, reason="kept for ten years", time=1_800_000_000)
    assert not path.exists()
    for action in (
        lambda: load_seal_key(path, "x"),
        lambda: destroy_seal_key(path, reason="again", time=2),
        lambda: retire_seal_key(path),
        lambda: save_seal_key(path, KEY, "x", epoch=1, scrypt_n=N),
    ):
        with pytest.raises(EvidenceErased):
            action()
    record = json.loads((tmp_path / "epoch-1.erased").read_bytes())
    assert record == {
        "format": "thoracle/erased-key/v1",
        "epoch": 1,
        "key_id": key_id(KEY.public).hex(),
        "file_digest": digest.hex(),
        "reason": "kept for ten years",
        "time": 1_800_000_000,
    }


def test_a_crash_while_destroying_leaves_a_record_and_can_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "epoch-1"
    save_seal_key(path, KEY, "x", epoch=1, scrypt_n=N)

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", fail)
        with pytest.raises(OutputError):
            destroy_seal_key(path, reason="retention", time=1)
    with pytest.raises(EvidenceErased):
        load_seal_key(path, "x")
    record = (tmp_path / "epoch-1.erased").read_bytes()
    destroy_seal_key(path, reason="retention", time=1)
    assert not path.exists()
    assert (tmp_path / "epoch-1.erased").read_bytes() == record


# ---- passwords ----


def test_passwords_come_from_a_private_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text("sesame é\nsecond line\n")
    file.chmod(0o600)
    assert read_password(file=file) == "sesame é"
    assert read_private(file).startswith(b"sesame")
    monkeypatch.setenv("THORACLE_TEST_PASSWORD", "open")
    assert read_password(env="THORACLE_TEST_PASSWORD") == "open"
    file.chmod(0o644)
    with pytest.raises(InsecureKeyFile):
        read_password(file=file)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_file_without_a_password(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError):
        read_password(file=file)


def test_neither_both_or_unset() -> None:
    os.environ.pop("THORACLE_TEST_PASSWORD", None)
    with pytest.raises(ConfigError):
        read_password()
    with pytest.raises(ConfigError):
        read_password(file=Path("x"), env="y")
    with pytest.raises(ConfigError):
        read_password(env="THORACLE_TEST_PASSWORD")
