"""Small values and hypothesis strategies that several codec tests share."""

from __future__ import annotations

import numpy as np
from eth_utils.address import to_checksum_address
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ledger.manifest import Manifest, TensorSpec
from ledger.seal import SealContext
from ledger.statement import Domain

quick = settings(deadline=None, max_examples=60)

HOSPITAL = to_checksum_address("0x" + "a1" * 20)
OTHER = to_checksum_address("0x" + "b2" * 20)
DOMAIN = Domain(
    federation_id=bytes([7]) * 32, chain_id=31337, contract=to_checksum_address("0x" + "c0" * 20)
)
CONTEXT = SealContext(
    domain=DOMAIN, round=3, hospital=HOSPITAL, base_model=bytes([9]) * 32, key_epoch=1
)
MANIFEST = Manifest(
    (
        TensorSpec(name="head.bias", shape=(3,)),
        TensorSpec(name="head.weight", shape=(3, 2)),
        TensorSpec(name="scale", shape=()),
    )
)

names = st.from_regex(r"[A-Za-z0-9_.\-/]{1,12}", fullmatch=True)
shapes = st.lists(st.integers(1, 4), max_size=4).map(tuple)
digests = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20).map(to_checksum_address)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Draw a manifest of one to five tensors."""
    found = draw(st.dictionaries(names, shapes, min_size=1, max_size=5))
    return Manifest(tuple(TensorSpec(name=n, shape=found[n]) for n in sorted(found)))


def update(size: int, seed: int = 0) -> NDArray[np.int16]:
    """Return a random valid update."""
    return np.random.default_rng(seed).integers(-32767, 32768, size).astype(np.int16)
