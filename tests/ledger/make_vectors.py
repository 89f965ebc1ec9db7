"""Write the test vectors of docs/wire.md: ``python -m tests.ledger.make_vectors``.

Each vector states what a reader must make of it: ``ok``, or the name of the error it must raise.
All but ``seal.json`` are deterministic (a seal draws fresh keys), and a test compares them.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ledger.canonical import canonical_json, config_digest, tagged_digest
from ledger.manifest import Manifest, TensorSpec, encode_model, encode_tensors
from ledger.probe import probe_sum, probe_update
from ledger.seal import SealContext, key_digest, key_from_seed, key_id, seal
from ledger.update import encode_opening, opening_digest
from tests.ledger.rows import GOOD, ROWS
from tests.ledger.samples import CONTEXT, DOMAIN, HOSPITAL, MANIFEST, OTHER, update
from tests.ledger.test_probe import reference_vector

FOLDER = Path(__file__).parent / "vectors"
SALT = bytes(range(32))
BEACON = bytes(range(32))
LEFT_OUT = {"flood", "zip_bomb"}  # one is a megabyte, the other differs by the zlib at hand
ZIP_HEAD = bytes.fromhex("504b0304140000000800000021005e6dcb7b")


def vector(name: str, expect: str, **rest: Any) -> dict[str, Any]:
    return {"name": name, "expect": expect, **rest}


def document(about: str, vectors: list[dict[str, Any]], **rest: Any) -> dict[str, Any]:
    return {"format": "thoracle/vectors/v1", "about": about, **rest, "vectors": vectors}


def update_file() -> dict[str, Any]:
    found = [vector("update", "ok", file=GOOD.hex(), values=update(MANIFEST.size).tolist())]
    found += [
        vector(name, error.__name__, file=data.hex())
        for name, (data, error) in ROWS.items()
        if name not in LEFT_OUT
    ]
    found.append(vector("zip_payload", "OversizeUpdate", file=ZIP_HEAD.hex()))
    found.append(vector("pickle_payload", "MalformedUpdate", file=pickle.dumps([1], 4).hex()))
    return document("I16 update files", found, dtype="I16", manifest=MANIFEST.to_json())


def sum_file() -> dict[str, Any]:
    values = [0, 1, -1, 2**45, -(2**45), 32767 * 2**30, 7, -7, 2**63 - 1, -(2**63)]
    data = encode_tensors(MANIFEST, np.array(values, np.int64))
    vectors = [
        vector("sum", "ok", file=data.hex(), values=values),
        vector("truncated_sum", "MalformedUpdate", file=data[:-8].hex()),
        vector("an_update_is_no_sum", "SpecMismatch", file=GOOD.hex()),
    ]
    return document("I64 sum files", vectors, dtype="I64", manifest=MANIFEST.to_json())


def model_file() -> dict[str, Any]:
    vector_f32 = np.array([0, 1, -1.5, 0.1, -0.0, 3e38, 1e-38, 2, 3, 4], np.float32)
    data = encode_model(MANIFEST.unflatten(vector_f32))
    nan = data[:-4] + np.array([np.nan], "<f4").tobytes()
    vectors = [
        vector("model", "ok", file=data.hex(), values=vector_f32.tolist()),
        vector("model_with_nan", "NonFiniteUpdate", file=nan.hex()),
    ]
    return document("F32 model files", vectors, dtype="F32", manifest=MANIFEST.to_json())


def domain_json() -> dict[str, Any]:
    return {
        "federation_id": DOMAIN.federation_id.hex(),
        "chain_id": DOMAIN.chain_id,
        "contract": DOMAIN.contract,
    }


def opening() -> dict[str, Any]:
    good = encode_opening(SALT, GOOD)
    honest = opening_digest(DOMAIN, HOSPITAL, CONTEXT.base_model, 3, SALT, GOOD)
    vectors = [
        vector("opening", "ok", plaintext=good.hex(), salt=SALT.hex(), digest=honest.hex()),
        vector("cut_in_the_salt", "MalformedUpdate", plaintext=good[:40].hex()),
        vector("another_format", "MalformedUpdate", plaintext=(b"x" + good[1:]).hex()),
        vector("no_update", "MalformedUpdate", plaintext=good[:48].hex()),
        vector("trailing_byte", "MalformedUpdate", plaintext=(good + b"\0").hex()),
    ]
    return document(
        "openings: what is sealed, and the digest committed to",
        vectors,
        manifest=MANIFEST.to_json(),
        domain=domain_json(),
        hospital=HOSPITAL,
        base_model=CONTEXT.base_model.hex(),
        round=3,
    )


def context_json(context: SealContext) -> dict[str, Any]:
    return {
        "federation_id": context.domain.federation_id.hex(),
        "chain_id": context.domain.chain_id,
        "contract": context.domain.contract,
        "round": context.round,
        "hospital": context.hospital,
        "base_model": context.base_model.hex(),
        "key_epoch": context.key_epoch,
        "info": context.info().hex(),
    }


def sealed() -> dict[str, Any]:
    seeds = [bytes([n]) * 96 for n in (1, 2, 3)]
    keys = [key_from_seed(seed) for seed in seeds]
    data = seal(b"an opening", [keys[0].public, keys[1].public], CONTEXT)
    flipped = data[:2000] + bytes([data[2000] ^ 1]) + data[2001:]

    def row(name: str, expect: str, file: bytes, seed: int, context: SealContext) -> dict[str, Any]:
        return vector(
            name,
            expect,
            ciphertext=file.hex(),
            seed=seeds[seed].hex(),
            context=context_json(context),
        )

    vectors = [
        row("coordinator", "ok", data, 0, CONTEXT),
        row("auditor", "ok", data, 1, CONTEXT),
        row("wrong_recipient", "SealBroken", data, 2, CONTEXT),
        row("ciphertext_bitflip", "SealBroken", flipped, 1, CONTEXT),
        row("truncated_ciphertext", "SealBroken", data[:-1], 0, CONTEXT),
        row("trailing_byte", "SealBroken", data + b"\0", 0, CONTEXT),
        row("other_round", "SealBroken", data, 0, replace(CONTEXT, round=4)),
        row("other_hospital", "SealBroken", data, 0, replace(CONTEXT, hospital=OTHER)),
        row(
            "other_chain",
            "SealBroken",
            data,
            0,
            replace(CONTEXT, domain=replace(DOMAIN, chain_id=1)),
        ),
    ]
    return document("sealed updates", vectors, plaintext=b"an opening".hex())


def public_keys() -> dict[str, Any]:
    good = key_from_seed(bytes([1]) * 96).public
    other = key_from_seed(bytes([2]) * 96).public
    prime = 2**255 - 19
    vectors = [
        vector(
            "key",
            "ok",
            public=good.hex(),
            key_id=key_id(good).hex(),
            key_digest_epoch_1=key_digest([good, other], 1).hex(),
            with_auditor=other.hex(),
        ),
        vector("low_order_zero", "BadKey", public=(good[:1184] + bytes(32)).hex()),
        vector("low_order_one", "BadKey", public=(good[:1184] + b"\1" + bytes(31)).hex()),
        vector(
            "not_reduced",
            "BadKey",
            public=(good[:1184] + (prime + 9).to_bytes(32, "little")).hex(),
        ),
        vector("coefficient_out_of_range", "BadKey", public=(b"\xff" * 1184 + good[1184:]).hex()),
        vector("short", "BadKey", public=good[:-1].hex()),
    ]
    return document("public sealing keys, ML-KEM-768 then X25519", vectors)


def probes() -> dict[str, Any]:
    q = update(24, 7)
    total = np.array([2**45, -(2**45), 2**63 - 1, -(2**63), 1, -1, 0, 32767], np.int64)
    vectors = [
        vector("update", "ok", values=q.tolist(), probes=list(probe_update(BEACON, q))),
        vector("sum", "ok", values=total.tolist(), probes=list(probe_sum(BEACON, total))),
    ]
    first = {str(j): reference_vector(BEACON, j, 8) for j in (0, 1, 15)}
    return document("probes", vectors, beacon=BEACON.hex(), first_coordinates=first)


def canonical() -> dict[str, Any]:
    value = {"b": [1, 1.0, 0.1, 1e300], "a": {"z": None, "ü": "\n"}}
    vectors = [
        vector("json", "ok", text=canonical_json(value).hex(), digest=config_digest(value).hex()),
        vector("duplicate_key", "NonCanonicalUpdate", text=b'{"a":1,"a":1}'.hex()),
        vector("nan", "MalformedUpdate", text=b"[NaN]".hex()),
        vector("overflow", "MalformedUpdate", text=b"1e999".hex()),
        vector("not_utf8", "MalformedUpdate", text=b'"\xff"'.hex()),
        vector("oversize", "OversizeUpdate", text=(b"1" * 65).hex()),
    ]
    small = Manifest((TensorSpec(name="a", shape=(2, 3)),))
    return document(
        "canonical JSON (bounded to 64 bytes here) and tagged digests",
        vectors,
        tagged_digest={"tag": "t1", "fields": ["616263", 5, "é"]},
        tagged_digest_value=tagged_digest("t1", b"abc", 5, "é").hex(),
        manifest=small.to_json(),
        manifest_digest=small.digest().hex(),
    )


DETERMINISTIC: dict[str, Callable[[], dict[str, Any]]] = {
    "update": update_file,
    "sum": sum_file,
    "model": model_file,
    "opening": opening,
    "public_key": public_keys,
    "probe": probes,
    "canonical": canonical,
}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, build in {**DETERMINISTIC, "seal": sealed}.items():
        text = json.dumps(build(), indent=1, ensure_ascii=True)
        (FOLDER / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
