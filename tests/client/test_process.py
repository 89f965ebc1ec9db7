"""One real hospital process behind the Flower shim, on a real node: order in, commit on chain."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from client import app as shim
from client.home import HospitalSpec, open_hospital
from client.shard import write_shard
from ledger.canonical import config_digest, sha256
from ledger.chain import Ledger
from ledger.chain_rpc import connect
from ledger.files import atomic_write
from ledger.keys import SCRYPT_N_SIMULATION, create_account
from ledger.manifest import Manifest, encode_model
from ledger.messages import AttestReply, TrainReply
from ledger.node import ManagedAnvil
from ledger.quantise import plan_quantiser
from ledger.seal import key_digest, new_key
from ledger.statement import Outcome, Rules, Unit
from tests.client.federation import EPOCH, Federation, account
from tests.client.test_app import context, message, shard
from tests.client.test_trainer import BASE, config

pytestmark = pytest.mark.e2e


class Deployed(Federation):
    """A federation of one real hospital home on a managed node."""

    def __init__(self, folder: Path, rpc: str) -> None:
        home = folder / "hospitals" / "0"
        home.mkdir(parents=True)
        atomic_write(home / "password", b"correct horse", mode=0o600)
        hospital = create_account(
            home / "account.json", "correct horse", scrypt_n=SCRYPT_N_SIMULATION
        )
        generator = np.random.default_rng(1)
        pixels = generator.integers(0, 255, (6, 1, 16, 16)).astype(np.uint8)
        write_shard(home / "shard.npz", shard(train_pixels=pixels[:4], held_pixels=pixels[4:]))
        (home / "policy.toml").write_text('metrics = ["images"]\n')
        self.coordinator, self.accounts = account("coordinator"), [hospital]
        self.base, self.manifest = encode_model(BASE), Manifest.of_model(BASE)
        self.quantiser = plan_quantiser(self.manifest.size, max_norm=20.0, coordinate_drift=0.5)
        self.key, self.number = new_key(), 0
        self.rules = Rules(
            federation_id=sha256(b"one"),
            initial_model=sha256(self.base),
            privacy_unit=Unit.NONE,
            share_cap=10_000,
        )
        self.ledger = Ledger.deploy(connect(rpc), self.coordinator, self.rules, [hospital.address])
        HospitalSpec(name="hospital 0", rpc=rpc, anchors=self.ledger.anchors, seed=9).write(home)
        with closing(open_hospital(home)) as opened:
            opened.register(cap=1, examples=4)

    def order_record(self) -> dict[str, object]:
        """Open a round and return its order, as it travels."""
        self.number += 1
        self.config = self.round_config(**config(), metrics=["images"])
        self.ledger.open_round(
            self.coordinator,
            base_model=self.ledger.model(),
            config_digest=config_digest(self.config),
            key_digest=key_digest((self.key.public,), EPOCH),
            norm_bound=self.quantiser.norm_bound,
            commit_window=600,
            attest_window=600,
        )
        return dict(self.order().to_record())


def test_a_round_through_the_shim_and_an_outage(tmp_path: Path) -> None:
    with ManagedAnvil(tmp_path / "chain") as node:
        world = Deployed(tmp_path, node.url)
        order = world.order_record()
        reply = shim.answer(message(order), context(tmp_path), "train")
        assert not reply.has_error(), reply.error.reason
        record = dict(reply.content.config_records["reply"])
        trained = TrainReply.from_record(record, allowed_metrics=())
        commit = world.ledger.commits(1)[world.accounts[0].address]
        assert commit.seal_digest == sha256(trained.ciphertext)

        draft = world.draft([trained])
        proposal = world.propose(draft)
        reply = shim.answer(
            message(dict(proposal.to_record()), "evaluate"), context(tmp_path), "evaluate"
        )
        assert not reply.has_error(), reply.error.reason
        record = dict(reply.content.config_records["reply"])
        answer = AttestReply.from_record(record, allowed_metrics={"images"})
        assert answer.attested
        assert answer.model_digest == draft.model_digest != sha256(world.base)
        assert answer.metrics == {"images": 2.0}
        world.finalise(draft)
        closing = world.ledger.closing(1)
        assert closing is not None
        assert closing.outcome is Outcome.SUM_VERIFIED

        order = world.order_record()
    reply = shim.answer(message(order), context(tmp_path), "train")
    assert reply.error.reason == "LedgerUnavailable"
