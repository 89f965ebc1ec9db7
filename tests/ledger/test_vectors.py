"""The committed vectors of docs/wire.md: each says what must become of it."""

import json
from typing import Any

import numpy as np
import pytest

from ledger.canonical import canonical_json, config_digest, parse_json, tagged_digest
from ledger.errors import ThoracleError
from ledger.manifest import Manifest, decode_tensors, encode_tensors
from ledger.probe import probe_sum, probe_update
from ledger.seal import SealContext, check_public, key_digest, key_from_seed, key_id, unseal
from ledger.statement import Domain
from ledger.update import decode_opening, encode_opening, opening_digest
from tests.ledger.make_vectors import DETERMINISTIC, FOLDER
from tests.ledger.test_manifest import DTYPES
from tests.ledger.test_probe import reference_vector


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    assert found["format"] == "thoracle/vectors/v1"
    return found


def rows(*names: str) -> pytest.MarkDecorator:
    found = [(load(name), row) for name in names for row in load(name)["vectors"]]
    return pytest.mark.parametrize(
        ("document", "row"), found, ids=[f"{d['about'][:12]}-{r['name']}" for d, r in found]
    )


def run(row: dict[str, Any], action: Any) -> Any:
    """Run ``action``; return None where the vector's own error was raised, exactly."""
    if row["expect"] == "ok":
        return action()
    with pytest.raises(ThoracleError) as caught:
        action()
    assert caught.value.name == row["expect"]
    return None


@rows("update", "sum", "model")
def test_tensor_files(document: dict[str, Any], row: dict[str, Any]) -> None:
    manifest = Manifest.from_json(document["manifest"])
    data = bytes.fromhex(row["file"])
    found = run(row, lambda: decode_tensors(data, manifest, document["dtype"]))
    if found is not None:
        wanted = np.array(row["values"], DTYPES[document["dtype"]])
        assert np.array_equal(found, wanted)
        assert encode_tensors(manifest, wanted) == data


def domain_of(value: dict[str, Any]) -> Domain:
    return Domain(
        federation_id=bytes.fromhex(value["federation_id"]),
        chain_id=value["chain_id"],
        contract=value["contract"],
    )


@rows("opening")
def test_openings(document: dict[str, Any], row: dict[str, Any]) -> None:
    manifest = Manifest.from_json(document["manifest"])
    data = bytes.fromhex(row["plaintext"])
    found = run(row, lambda: decode_opening(data, manifest))
    if found is not None:
        salt, file, _ = found
        assert salt.hex() == row["salt"]
        assert encode_opening(salt, file) == data
        digest = opening_digest(
            domain_of(document["domain"]),
            document["hospital"],
            bytes.fromhex(document["base_model"]),
            document["round"],
            salt,
            file,
        )
        assert digest.hex() == row["digest"]


@rows("seal")
def test_seals(document: dict[str, Any], row: dict[str, Any]) -> None:
    given = row["context"]
    context = SealContext(
        domain=domain_of(given),
        round=given["round"],
        hospital=given["hospital"],
        base_model=bytes.fromhex(given["base_model"]),
        key_epoch=given["key_epoch"],
    )
    assert context.info().hex() == given["info"]
    key = key_from_seed(bytes.fromhex(row["seed"]))
    found = run(row, lambda: unseal(bytes.fromhex(row["ciphertext"]), key, context))
    assert found is None or found.hex() == document["plaintext"]


@rows("public_key")
def test_public_keys(document: dict[str, Any], row: dict[str, Any]) -> None:
    assert document["about"].startswith("public")
    public = bytes.fromhex(row["public"])
    if run(row, lambda: check_public(public)) is not None:
        assert key_id(public).hex() == row["key_id"]
        auditor = bytes.fromhex(row["with_auditor"])
        assert key_digest([public, auditor], 1).hex() == row["key_digest_epoch_1"]


@rows("probe")
def test_probes(document: dict[str, Any], row: dict[str, Any]) -> None:
    beacon = bytes.fromhex(document["beacon"])
    for j, first in document["first_coordinates"].items():
        assert reference_vector(beacon, int(j), len(first)) == first
    if row["name"] == "update":
        found = probe_update(beacon, np.array(row["values"], np.int16))
    else:
        found = probe_sum(beacon, np.array(row["values"], np.int64))
    assert list(found) == row["probes"]


@rows("canonical")
def test_json(document: dict[str, Any], row: dict[str, Any]) -> None:
    text = bytes.fromhex(row["text"])
    value = run(row, lambda: parse_json(text, 64))
    if value is not None:
        assert canonical_json(value) == text
        assert config_digest(value).hex() == row["digest"]
    first, number, word = document["tagged_digest"]["fields"]
    digest = tagged_digest(document["tagged_digest"]["tag"], bytes.fromhex(first), number, word)
    assert digest.hex() == document["tagged_digest_value"]
    manifest = Manifest.from_json(document["manifest"])
    assert manifest.digest().hex() == document["manifest_digest"]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_committed_vectors_are_what_the_generator_writes(name: str) -> None:
    assert load(name) == json.loads(json.dumps(DETERMINISTIC[name]()))
