"""Delta, clip, quantise, open, seal: what a coordinator opens is what the hospital meant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.update import UpdateContext, delta_of, seal_update
from ledger.canonical import sha256
from ledger.errors import BadKey, NonFiniteUpdate, SealBroken, SpecMismatch
from ledger.manifest import Manifest, Model
from ledger.quantise import plan_quantiser, squared_norm
from ledger.seal import SealContext, new_key, unseal
from ledger.statement import Domain
from ledger.update import decode_opening, opening_digest
from tests.client.federation import account, initial_model

BASE = initial_model()
MANIFEST = Manifest.of_model(BASE)
KEY, AUDITOR = new_key(), new_key()
DOMAIN = Domain(federation_id=sha256(b"f"), chain_id=7, contract=account("contract").address)
CONTEXT = UpdateContext(
    domain=DOMAIN,
    hospital=account("hospital").address,
    round=3,
    base_model=sha256(b"base"),
    key_epoch=1,
    update=MANIFEST,
    quantiser=plan_quantiser(MANIFEST.size, max_norm=1.0, coordinate_drift=0.5),
    public_keys=(KEY.public, AUDITOR.public),
)
SEAL = SealContext(
    domain=DOMAIN,
    round=3,
    hospital=CONTEXT.hospital,
    base_model=CONTEXT.base_model,
    key_epoch=1,
)


def trained(scale: float, seed: int = 1) -> Model:
    generator = np.random.default_rng(seed)
    return {
        name: (array + scale * generator.standard_normal(array.shape)).astype(np.float32)
        for name, array in BASE.items()
    }


@pytest.mark.parametrize("key", [KEY, AUDITOR])
def test_everyone_it_is_sealed_to_opens_the_committed_update(key: object) -> None:
    sealed = seal_update(trained(0.01), BASE, CONTEXT)
    plain = unseal(sealed.ciphertext, key, SEAL)  # type: ignore[arg-type]
    salt, update, q = decode_opening(plain, MANIFEST)
    assert plain == sealed.opening
    assert sealed.seal_digest == sha256(sealed.ciphertext)
    assert sealed.opening_digest == opening_digest(
        DOMAIN, CONTEXT.hospital, CONTEXT.base_model, 3, salt, update
    )
    assert np.array_equal(q, sealed.quantised.q)


def test_the_update_is_the_delta_within_half_a_step() -> None:
    model = trained(0.01)
    sealed = seal_update(model, BASE, CONTEXT)
    delta = MANIFEST.flatten(model) - MANIFEST.flatten(BASE)
    assert not sealed.quantised.clipped
    step = CONTEXT.quantiser.step
    assert np.abs(sealed.quantised.q * step - delta).max() <= step / 2 + 1e-9


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0, 1e6), seed=st.integers(0, 100))
def test_the_norm_bound_always_holds(scale: float, seed: int) -> None:
    sealed = seal_update(trained(scale, seed), BASE, CONTEXT)
    assert squared_norm(sealed.quantised.q) <= CONTEXT.quantiser.norm_bound**2


def test_the_salt_is_fresh() -> None:
    first, second = (seal_update(trained(0.01), BASE, CONTEXT) for _ in range(2))
    assert np.array_equal(first.quantised.q, second.quantised.q)
    assert first.opening_digest != second.opening_digest


@pytest.mark.parametrize(
    "change",
    [
        {"round": 4},
        {"hospital": account("other").address},
        {"base_model": sha256(b"other")},
        {"key_epoch": 2},
        {"domain": replace(DOMAIN, chain_id=8)},
    ],
)
def test_context_swapped(change: dict[str, object]) -> None:
    sealed = seal_update(trained(0.01), BASE, CONTEXT)
    with pytest.raises(SealBroken):
        unseal(sealed.ciphertext, KEY, replace(SEAL, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_delta(fault: float) -> None:
    model = trained(0.01)
    model["b.bias"][0] = fault
    with pytest.raises(NonFiniteUpdate):
        seal_update(model, BASE, CONTEXT)


def test_a_delta_that_overflows_is_not_finite() -> None:
    model, base = trained(0.0), trained(0.0)
    model["b.bias"][0], base["b.bias"][0] = 3e38, -3e38
    with pytest.raises(NonFiniteUpdate):
        seal_update(model, base, CONTEXT)


def test_low_order_key() -> None:
    low = KEY.public[:1184] + bytes(32)
    with pytest.raises(BadKey):
        seal_update(trained(0.01), BASE, replace(CONTEXT, public_keys=(low,)))


def test_training_that_changed_the_tensors() -> None:
    model = trained(0.01)
    del model["b.bias"]
    with pytest.raises(SpecMismatch):
        delta_of(model, BASE, MANIFEST)
    with pytest.raises(SpecMismatch):
        delta_of({**trained(0.01), "b.bias": np.zeros(12, np.float32)}, BASE, MANIFEST)
