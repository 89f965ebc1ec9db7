"""The offline bundle: whole, or refused; nothing in it can unfold, hide or point elsewhere."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.archive import ArchiveSource, FolderSource, write_archive
from ledger.audit import audit
from ledger.bundle import FILE, decode_bundle, encode_bundle
from ledger.errors import BundleInvalid, ConfigError, JournalCorrupt, OutputError
from ledger.run_facts import (
    held_keys,
    open_source,
    read_anchors,
    read_facts,
)
from tests.ledger.audited_run import Federation

QUICK = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def run(honest: Federation) -> Path:
    return honest.folder


@pytest.fixture(scope="module")
def bundle(run: Path) -> bytes:
    return (run / FILE).read_bytes()


@pytest.fixture(scope="module")
def archive(run: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("archive") / "run.zip"
    write_archive(run, out)
    return out.read_bytes()


def test_a_bundle_reads_back_to_what_was_written(bundle: bytes) -> None:
    record, anchors = decode_bundle(bundle)
    assert encode_bundle(record, anchors) == bundle


@QUICK
@given(st.data())
def test_bundle_bitflip(bundle: bytes, data: st.DataObject) -> None:
    """bundle_bitflip: any single bit."""
    at = data.draw(st.integers(0, len(bundle) * 8 - 1))
    damaged = bytearray(bundle)
    damaged[at // 8] ^= 1 << at % 8
    with pytest.raises(BundleInvalid):
        decode_bundle(bytes(damaged))


@QUICK
@given(st.data())
def test_bundle_truncated(bundle: bytes, data: st.DataObject) -> None:
    """bundle_truncated: at any byte."""
    with pytest.raises(BundleInvalid):
        decode_bundle(bundle[: data.draw(st.integers(0, len(bundle) - 1))])


@pytest.mark.parametrize(
    "edit",
    [
        lambda value: value.pop("blocks"),
        lambda value: value["blocks"][1].pop("header"),
        lambda value: value["blocks"].__setitem__(1, 7),
        lambda value: value["proof"].__setitem__("nonce", -1),
        lambda value: value["anchors"].__setitem__("chain_id", "1"),
        lambda value: value.__setitem__("code", "zz"),
    ],
)
def test_a_bundle_whose_digest_was_made_to_fit_still_needs_its_fields(
    bundle: bytes, edit: object
) -> None:
    from ledger.bundle import _digest
    from ledger.canonical import canonical_json

    value = json.loads(bundle)
    value.pop("digest")
    edit(value)  # type: ignore[operator]
    data = canonical_json({**value, "digest": _digest(value)}) + b"\n"
    with pytest.raises(BundleInvalid):
        decode_bundle(data)


def test_another_spelling_of_the_same_bundle_is_refused(bundle: bytes) -> None:
    with pytest.raises(BundleInvalid, match="canonically"):
        decode_bundle(json.dumps(json.loads(bundle), indent=1).encode())


def test_run_and_bundle_must_name_the_same_anchors(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    text = (copy / "run.json").read_text()
    record = json.loads(text)
    record["anchors"]["chain_id"] += 1
    (copy / "run.json").write_text(json.dumps(record))
    with pytest.raises(BundleInvalid, match="different anchors"):
        read_facts(FolderSource(copy))


# ---- one file for everything ----


def _source(data: bytes, folder: Path) -> ArchiveSource:
    path = folder / "given.zip"
    path.write_bytes(data)
    return ArchiveSource(path)


def test_an_archive_audits_like_its_folder_and_holds_no_key(
    run: Path, archive: bytes, tmp_path: Path
) -> None:
    source = _source(archive, tmp_path)
    keys, _ = held_keys(run)
    inside = audit(read_facts(source, keys=keys))
    outside = audit(read_facts(FolderSource(run), keys=keys))
    assert inside.clean
    assert inside.digest() == outside.digest()
    with zipfile.ZipFile(tmp_path / "given.zip") as file:
        assert not [name for name in file.namelist() if "key" in name or "hospitals" in name]


def test_an_archive_is_the_same_bytes_every_time(run: Path, archive: bytes, tmp_path: Path) -> None:
    write_archive(run, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive


@QUICK
@given(st.data())
def test_archive_bitflip_and_cut(archive: bytes, tmp_path: Path, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(archive) - 1))
    damaged = bytearray(archive)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    for wrong in (bytes(damaged), archive[:at], archive + b"x"):
        with pytest.raises(BundleInvalid):
            _source(wrong, tmp_path)


def _marked(path: Path) -> bytes:
    """Give a hostile ZIP the right digest: what an attacker would do."""
    import hashlib

    data = path.read_bytes()
    return data[:-64] + hashlib.sha256(data[:-64]).hexdigest().encode()


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/run.json", "keys/seal-1.json", "models/x.pickle"]
)
def test_an_archive_with_a_foreign_name_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as file:
        file.comment = b"0" * 64
        file.writestr(name, b"data")
    with pytest.raises(BundleInvalid, match="no part"):
        _source(_marked(tmp_path / "made.zip"), tmp_path)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    """zip_bomb: nothing here is ever inflated."""
    with zipfile.ZipFile(tmp_path / "made.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.comment = b"0" * 64
        file.writestr("run.json", b"0" * 10_000_000)
    with pytest.raises(BundleInvalid, match="compressed"):
        _source(_marked(tmp_path / "made.zip"), tmp_path)


def test_an_archive_is_never_overwritten(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.zip").write_bytes(b"precious")
    with pytest.raises(OutputError):
        write_archive(run, tmp_path / "mine.zip")
    assert (tmp_path / "mine.zip").read_bytes() == b"precious"


# ---- a run folder's other files ----


def test_neither_folder_nor_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        open_source(tmp_path / "nothing")
    with pytest.raises(BundleInvalid):
        read_facts(FolderSource(tmp_path))


def test_anchors_from_their_own_file_or_from_a_run(run: Path, tmp_path: Path) -> None:
    anchors = read_anchors(run / "run.json")
    (tmp_path / "anchors.json").write_text(anchors.to_json())
    assert read_anchors(tmp_path / "anchors.json") == anchors
    with pytest.raises(ConfigError):
        read_anchors(tmp_path / "none.json")


def test_a_torn_journal_line_is_named(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    journal = b'{"format":"thoracle/transactions/v1"}\n{"kind":"signed"\n'
    (copy / "chain" / "transactions.jsonl").write_bytes(journal)
    with pytest.raises(JournalCorrupt, match="line 2"):
        read_facts(FolderSource(copy))
