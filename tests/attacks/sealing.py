"""Rows of sealing and keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ledger.errors import (
    BadKey,
    EvidenceErased,
    InsecureKeyFile,
    KeyLocked,
    SealBroken,
    StaleKey,
)
from ledger.keys import (
    StoredSealKey,
    create_account,
    destroy_seal_key,
    load_account,
    load_seal_key,
    save_seal_key,
)
from ledger.seal import SealKey, unseal
from server.plan import Keyring
from tests.attacks.case import FILES, REFUSED, Case, Scene
from tests.attacks.forge import ROGUE, Forgery, context_of
from tests.world import seal_key

QUICK = 1 << 4
"""scrypt's cost in tests."""


def _case(name: str, tampers: str, **tamper: Callable[[Any], Any]) -> Case:
    def play(scene: Scene) -> None:
        Forgery(scene.world, **tamper).submit()
        scene.finish()
        scene.refused(ROGUE)

    return Case(
        name=name,
        room="seal and keys",
        tampers=tampers,
        caught="coordinator",
        error=SealBroken,
        stage="two",
        play=play,
        records=REFUSED,
        files=FILES,
    )


def _flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _low_order(scene: Scene) -> None:
    """The coordinator announces a key whose X25519 half is the point 0 (low order)."""
    honest = scene.world.key
    bad = SealKey(seed=honest.seed, public=honest.public[:1184] + bytes(32))
    ring = Keyring(keys=(StoredSealKey(epoch=1, retired=False, key=bad),))
    order = scene.world.make_coordinator(keyring=ring).open_round()
    with scene.caught_by("hospital"):
        scene.world.hospitals[0].train(order)


def _substituted(scene: Scene) -> None:
    """Somebody between coordinator and hospital puts their own key into the order."""
    order = scene.world.coordinator.order()
    with scene.caught_by("hospital"):
        scene.world.hospitals[0].train(replace(order, public_keys=(seal_key("thief").public,)))


def _retired(scene: Scene) -> None:
    """The only key there is belongs to a retired epoch."""
    ring = Keyring(keys=(StoredSealKey(epoch=1, retired=True, key=scene.world.key),))
    with scene.caught_by("coordinator"):
        scene.world.make_coordinator(keyring=ring).open_round()


def _rotated(scene: Scene) -> None:
    """After a compromise the key is rotated: the old one opens history, but no new round."""
    world = scene.world
    old = StoredSealKey(epoch=1, retired=True, key=world.key)
    new = StoredSealKey(epoch=2, retired=False, key=seal_key("coordinator, epoch 2"))
    past = world.ledger.opening(1)
    rotated = Keyring(keys=(old, new))
    for hospital, commit in world.ledger.commits(1).items():
        assert rotated.announced(past.key_digest) is old
        seat = [str(a.address) for a in world.accounts].index(hospital)
        ciphertext = world.store.evidence.get(commit.seal_digest)
        assert unseal(ciphertext, old.key, context_of(world, past, seat))
    order = world.make_coordinator(keyring=rotated).open_round()
    assert (order.key_epoch, order.public_keys) == (2, (new.key.public,))
    with scene.caught_by("coordinator"):
        Keyring(keys=(old,)).current()


def _erased(scene: Scene) -> None:
    path = scene.folder / "seal-1.json"
    save_seal_key(path, scene.world.key, "word", epoch=1, scrypt_n=QUICK)
    destroy_seal_key(path, reason="retention ended", time=0)
    with scene.caught_by("auditor"):
        load_seal_key(path, "word")


def _readable(scene: Scene) -> None:
    path = scene.folder / "account.json"
    create_account(path, "word", scrypt_n=QUICK)
    path.chmod(0o644)
    with scene.caught_by("hospital"):
        load_account(path, "word")


def _password(scene: Scene) -> None:
    path = scene.folder / "account.json"
    create_account(path, "word", scrypt_n=QUICK)
    with scene.caught_by("hospital"):
        load_account(path, "another word")


CASES = (
    _case("ciphertext_bitflip", "one bit of the ciphertext that is committed", sealed=_flip),
    _case(
        "truncated_ciphertext",
        "the ciphertext's second half is missing",
        sealed=lambda data: data[: len(data) // 2],
    ),
    _case(
        "wrong_recipient",
        "sealed to a key nobody announced",
        recipients=lambda _: (seal_key("somebody else").public,),
    ),
    _case(
        "context_swapped_round",
        "sealed for the round before",
        context=lambda c: replace(c, round=c.round - 1),
    ),
    _case(
        "context_swapped_hospital",
        "sealed in another hospital's name",
        context=lambda c: replace(c, hospital="0x" + "11" * 20),
    ),
    _case(
        "context_swapped_chain",
        "sealed for another chain",
        context=lambda c: replace(c, domain=replace(c.domain, chain_id=1)),
    ),
    Case(
        name="low_order_key",
        room="seal and keys",
        tampers="the coordinator announces a key of low order",
        caught="hospital",
        error=BadKey,
        stage="idle",
        play=_low_order,
        records={"RoundOpened": 1},
        files={"configs": 1},
    ),
    Case(
        name="substituted_hpke_key",
        room="seal and keys",
        tampers="the key in the order is not the one announced on the chain",
        caught="hospital",
        error=BadKey,
        stage="open",
        play=_substituted,
    ),
    Case(
        name="evidence_erased",
        room="seal and keys",
        tampers="a key is destroyed after its retention, and asked for again",
        caught="auditor",
        error=EvidenceErased,
        stage="idle",
        play=_erased,
    ),
    Case(
        name="retired_epoch",
        room="seal and keys",
        tampers="a new round is to open with a key of a retired epoch",
        caught="coordinator",
        error=StaleKey,
        stage="idle",
        play=_retired,
    ),
    Case(
        name="compromised_then_rotated",
        room="seal and keys",
        tampers="a stolen key is rotated away: it opens history, and no new round",
        caught="coordinator",
        error=StaleKey,
        stage="idle",
        play=_rotated,
        records={"RoundOpened": 1},
        files={"configs": 1},
    ),
    Case(
        name="world_readable_key",
        room="seal and keys",
        tampers="a keystore's file can be read by everybody",
        caught="hospital",
        error=InsecureKeyFile,
        stage="idle",
        play=_readable,
    ),
    Case(
        name="wrong_keystore_password",
        room="seal and keys",
        tampers="the password of a keystore",
        caught="hospital",
        error=KeyLocked,
        stage="idle",
        play=_password,
    ),
)
