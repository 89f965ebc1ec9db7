"""Durable files: all or nothing, bounded, verified by name."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical import sha256
from ledger.errors import EvidenceMismatch, EvidenceMissing, OutputError, OversizeUpdate
from ledger.files import ObjectStore, atomic_write, read_bounded
from tests.ledger.samples import quick


def test_write_makes_folders_and_sets_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    atomic_write(path, b"one")
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    atomic_write(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("step", ["fsync", "fchmod"])
def test_a_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    atomic_write(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OutputError, match="No space left"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failed_rename_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    atomic_write(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_writing_below_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError):
        atomic_write(tmp_path / "file" / "below", b"x")


def test_read_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(OversizeUpdate):
        read_bounded(path, 4)
    with pytest.raises(EvidenceMissing):
        read_bounded(tmp_path / "none", 4)
    with pytest.raises(EvidenceMissing):
        read_bounded(tmp_path, 4)


def test_an_endless_file_is_bounded_though_its_size_says_zero() -> None:
    with pytest.raises(OversizeUpdate):
        read_bounded(Path("/dev/zero"), 100)


@quick
@given(data=st.binary(max_size=100))
def test_store_names_by_content(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    store = ObjectStore(tmp_path_factory.mktemp("store"), ".bin")
    digest = store.put(data)
    assert digest == store.put(data) == sha256(data)
    assert store.get(digest) == data
    assert store.path(digest).name == digest.hex() + ".bin"
    assert digest in store
    assert list(store.digests()) == [digest]


def test_store_notices_edits_and_heals_by_a_new_put(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "objects")
    digest = store.put(b"evidence")
    store.path(digest).write_bytes(b"evidencE")
    with pytest.raises(EvidenceMismatch, match=digest.hex()):
        store.get(digest)
    store.put(b"evidence")
    assert store.get(digest) == b"evidence"


def test_store_names_what_is_missing_or_too_long(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path, limit=4)
    with pytest.raises(EvidenceMissing):
        store.get(bytes(32))
    with pytest.raises(OversizeUpdate):
        store.put(b"12345")
    store.path(bytes(32)).write_bytes(b"12345")
    with pytest.raises(EvidenceMismatch):
        store.get(bytes(32))
    assert sha256(b"x") not in store


def test_foreign_files_are_not_listed(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    digest = store.put(b"a")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ("Z" * 64)).write_text("x")
    assert list(store.digests()) == [digest]
