"""A training that is killed goes on, and ends with the bits of one that was not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from client.accountant import Accountant
from client.checkpoint import Cadence, Desk
from client.learners import get_learner, module_to_model
from client.learners.augment import Augmentation
from client.learners.interface import Learner
from client.noise import Keystream
from client.privacy_plan import PrivacyPlan
from client.private_guard import PrivacyAccountGuard
from client.private_trainer import PrivateTrainer
from client.roles import TrainedUpdate
from client.train import TrainPlan
from client.trainer import LocalTrainer
from ledger.errors import PolicyError, StorageFull
from ledger.manifest import Manifest, Model, encode_model
from ledger.statement import Mechanism, Unit
from ledger.steps import Kind, Phase, watched
from tests.client.test_train import LEARNERS, blobs
from tests.world import World

EVERY = 2
STEPS = 10
"""Five batches an epoch, two epochs."""


class Killed(BaseException):
    """The process ends here."""


def config(learner: Learner, base: Model, **changes: Any) -> dict[str, Any]:
    plan = TrainPlan(
        epochs=2, batch_size=8, learning_rate=3e-3, augmentation=Augmentation(shift=0.1)
    )
    return {
        "manifest": Manifest.of_model(base).to_json(),
        "learner": learner.describe(),
        "train": plan.describe(),
        "privacy": None,
        "round": 1,
        "rounds": 2,
        **changes,
    }


def base_of(learner: Learner) -> Model:
    module = learner.build(0)
    return module_to_model(module, learner.shared(module))


def dies_at(step: int) -> Callable[[int, int], None]:
    def progress(done: int, _total: int) -> None:
        if done == step:
            raise Killed

    return progress


def counting(seen: list[int]) -> Callable[[int, int], None]:
    return lambda done, _total: seen.append(done)


def desk(folder: Path, *data: Any, **cadence: Any) -> Desk:
    return Desk(
        folder=folder, data=data, cadence=Cadence(**{"seconds": 1e9, "steps": EVERY, **cadence})
    )


def plain(folder: Path | None, progress: Callable[[int, int], None] | None = None) -> LocalTrainer:
    images, labels = blobs(40)
    return LocalTrainer(
        pixels=images,
        labels=labels,
        progress=progress,
        desk=desk(folder, images, labels) if folder else None,
    )


def bits(update: TrainedUpdate) -> bytes:
    return encode_model(update.model)


@pytest.mark.parametrize("name", sorted(LEARNERS))
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_killed_again_and_again_it_ends_with_the_same_bits(
    tmp_path: Path, name: str, optimiser: str
) -> None:
    """Within an epoch, at its end, and before the first checkpoint; dropout and shifts too."""
    learner = LEARNERS[name]
    base = base_of(learner)
    asked = config(learner, base)
    asked["train"] = {**asked["train"], "optimiser": optimiser}
    undisturbed = plain(None)(dict(base), asked, 7)
    for step in (1, 3, 5, 6, STEPS):
        with pytest.raises(Killed):
            plain(tmp_path, dies_at(step))(dict(base), asked, 7)
    seen: list[int] = []
    again = plain(tmp_path, counting(seen))(dict(base), asked, 7)
    assert bits(again) == bits(undisturbed)
    assert again.metrics == undisturbed.metrics
    assert seen == [], "all steps were taken before it was killed the last time"


def test_it_goes_on_after_the_last_checkpoint(tmp_path: Path) -> None:
    learner = LEARNERS["cnn"]
    base = base_of(learner)
    with pytest.raises(Killed):
        plain(tmp_path, dies_at(7))(dict(base), config(learner, base), 7)
    seen: list[int] = []
    plain(tmp_path, counting(seen))(dict(base), config(learner, base), 7)
    assert seen == [7, 8, 9, 10], "six steps were put down; nothing before is done again"


@pytest.mark.parametrize("change", ["seed", "config", "base", "data"])
def test_another_training_begins_from_its_own_base(tmp_path: Path, change: str) -> None:
    learner = LEARNERS["cnn"]
    base = base_of(learner)
    with pytest.raises(Killed):
        plain(tmp_path, dies_at(7))(dict(base), config(learner, base), 7)
    seen: list[int] = []
    trainer, asked, seed = plain(tmp_path, counting(seen)), config(learner, base), 7
    other = dict(base)
    if change == "seed":
        seed = 8
    elif change == "config":
        asked = config(learner, base, round=2)
    elif change == "base":
        other = {key: array + np.float32(0.01) for key, array in base.items()}
    else:
        pixels = trainer.pixels.copy()
        pixels[0, 0, 0, 0] ^= 1
        trainer = replace(trainer, pixels=pixels, desk=desk(tmp_path, pixels, trainer.labels))
    expected = bits(replace(trainer, desk=None, progress=None)(dict(other), asked, seed))
    assert bits(trainer(dict(other), asked, seed)) == expected
    assert len(seen) == STEPS


def damages() -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    yield "empty", lambda data: b""
    yield "cut", lambda data: data[:-9]
    yield "cut header", lambda data: data[:40]
    yield "rubbish", lambda data: b"\x80\x04pickle" * 50
    yield "a length beyond its end", lambda data: b"\xff" * 8 + data[8:]
    yield "another format", lambda data: data.replace(b"checkpoint/v2", b"checkpoint/v9")
    yield "a tensor renamed", lambda data: data.replace(b"module/", b"modulo/", 1)


@pytest.mark.parametrize(("what", "harm"), list(damages()), ids=[what for what, _ in damages()])
def test_a_damaged_one_is_as_good_as_none(
    tmp_path: Path, what: str, harm: Callable[[bytes], bytes]
) -> None:
    learner = LEARNERS["cnn"]
    base = base_of(learner)
    asked = config(learner, base)
    with pytest.raises(Killed):
        plain(tmp_path, dies_at(7))(dict(base), asked, 7)
    path = tmp_path / "checkpoint"
    path.write_bytes(harm(path.read_bytes()))
    seen: list[int] = []
    assert bits(plain(tmp_path, counting(seen))(dict(base), asked, 7)) == bits(
        plain(None)(dict(base), asked, 7)
    )
    assert len(seen) == STEPS


def test_the_file_is_private_plain_and_bound(tmp_path: Path) -> None:
    learner = LEARNERS["vit"]
    base = base_of(learner)
    with pytest.raises(Killed):
        plain(tmp_path, dies_at(5))(dict(base), config(learner, base), 7)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    with safe_open(path, "pt") as opened:
        about = json.loads(opened.metadata()["about"])
        assert about["numbers"]["done"] == 4
        assert any(name.startswith("optimiser/") for name in opened.keys())  # noqa: SIM118
    plain(tmp_path).forget()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("kind", ["write", "rename"])
def test_killed_while_it_is_being_put_down(tmp_path: Path, kind: str, phase: str) -> None:
    learner = LEARNERS["cnn"]
    base = base_of(learner)
    asked, place = config(learner, base), count()

    def third(seen: Kind, what: str, side: Phase, /) -> None:
        if (seen, side) == (kind, phase) and what.endswith("checkpoint") and next(place) == 2:
            raise Killed

    with watched(third), pytest.raises(Killed):
        plain(tmp_path)(dict(base), asked, 7)
    seen: list[int] = []
    again = plain(tmp_path, counting(seen))(dict(base), asked, 7)
    assert bits(again) == bits(plain(None)(dict(base), asked, 7))
    put_down = 6 if (kind, phase) != ("write", "before") and phase == "after" else 4
    assert seen == list(range(put_down + 1, STEPS + 1))


def test_minutes_count_too(tmp_path: Path) -> None:
    """By the clock: steps that take a minute each are put down every five."""
    minutes = count(0, 60)
    learner = LEARNERS["cnn"]
    base = base_of(learner)
    images, labels = blobs(40)
    cadence = {"steps": 0, "seconds": 300.0, "clock": lambda: float(next(minutes))}
    trainer = LocalTrainer(
        pixels=images, labels=labels, progress=dies_at(9),
        desk=desk(tmp_path, images, labels, **cadence),
    )  # fmt: skip
    with pytest.raises(Killed):
        trainer(dict(base), config(learner, base), 7)
    with safe_open(tmp_path / "checkpoint", "pt") as opened:
        assert 4 <= json.loads(opened.metadata()["about"])["numbers"]["done"] < 9


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    learner = LEARNERS["cnn"]
    base = base_of(learner)
    monkeypatch.setattr("ledger.files.os.fsync", full)
    with pytest.raises(StorageFull):
        plain(tmp_path)(dict(base), config(learner, base), 7)
    assert list(tmp_path.iterdir()) == []


# ---- with privacy ----

RUN = PrivacyPlan(
    unit=Unit.PATIENT, noise_multiplier=10**6, sample_rate=3 * 10**8, steps=6, rounds=1,
    delta=10**7,
)  # fmt: skip
PRIVATE = get_learner("cnn", width=8, input_size=32, labels=2)


def private_config(base: Model) -> dict[str, Any]:
    extra = {"clip_norm": 1.0, "multiplicity": 1, "physical_batch": 16}
    return config(PRIVATE, base, privacy={**RUN.to_config(), **extra}, rounds=1)


def private(
    folder: Path | None,
    progress: Callable[[int, int], None] | None = None,
    seed: int | None = 1,
) -> PrivateTrainer:
    images, labels = blobs(40)
    return PrivateTrainer(
        pixels=images,
        labels=labels,
        patients=np.arange(40, dtype=np.int64),
        insecure_seed=seed,
        progress=progress,
        desk=desk(folder, images, labels) if folder else None,
    )


def test_with_a_test_keystream_a_private_round_has_the_same_bits(tmp_path: Path) -> None:
    base = base_of(PRIVATE)
    asked = private_config(base)
    undisturbed = private(None)(dict(base), asked, 7)
    for step in (1, 3, 5):
        with pytest.raises(Killed):
            private(tmp_path, dies_at(step))(dict(base), asked, 7)
    seen: list[int] = []
    again = private(tmp_path, counting(seen))(dict(base), asked, 7)
    assert bits(again) == bits(undisturbed)
    assert again.mechanism == undisturbed.mechanism
    assert seen == [5, 6]


def test_secret_noise_is_drawn_afresh_and_its_key_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two keys, neither on the disk; the steps that made the update are the planned ones."""
    keys: list[bytes] = []
    urandom = os.urandom

    def noted(size: int) -> bytes:
        keys.append(urandom(size))
        return keys[-1]

    monkeypatch.setattr("client.noise.os.urandom", noted)
    base = base_of(PRIVATE)
    asked = private_config(base)
    with pytest.raises(Killed):
        private(tmp_path, dies_at(5), None)(dict(base), asked, 7)
    data = (tmp_path / "checkpoint").read_bytes()
    assert b"taken" not in data
    seen: list[int] = []
    made = private(tmp_path, counting(seen), None)(dict(base), asked, 7)
    assert seen == [5, 6], "four steps before the kill, two after: six, as charged"
    assert made.mechanism.steps == RUN.steps
    assert len(keys) == 2
    assert keys[0] != keys[1]
    assert all(key not in data and key.hex().encode() not in data for key in keys)


def test_a_secret_keystream_is_never_taken_up() -> None:
    with pytest.raises(PolicyError, match="fresh noise"):
        Keystream().take_up(8)
    known = Keystream.insecure_test(1)
    known.words(100)
    other = Keystream.insecure_test(1)
    other.take_up(100)
    assert np.array_equal(known.words(50), other.words(50))
    with pytest.raises(PolicyError, match="go back"):
        known.take_up(3)


def test_going_on_charges_nothing_again(tmp_path: Path) -> None:
    """The charge is the planned round's, ahead; a round taken up finds it there."""
    base = base_of(PRIVATE)
    asked = private_config(base)
    path = tmp_path / "accountant.sqlite"

    def attempt(progress: Callable[[int, int], None] | None) -> Mechanism:
        guard = PrivacyAccountGuard(path)
        charge = guard.authorise(1, asked, spent=0, cap=10**12)
        made = private(tmp_path / "training", progress)(dict(base), asked, 7)
        return guard.settle(charge, made.mechanism)

    with pytest.raises(Killed):
        attempt(dies_at(5))
    charged = Accountant(path).charges()
    settled = attempt(None)
    assert Accountant(path).charges() == charged == {1: settled}


def test_the_hospital_forgets_it_once_the_update_is_spooled(tmp_path: Path) -> None:
    """Not before: killed in between, it would have neither."""
    forgotten: list[bool] = []
    world = World(tmp_path / "world")

    class Trainer:
        def __call__(
            self, base: Model, config: Mapping[str, object], seed: int, /
        ) -> TrainedUpdate:
            return TrainedUpdate(model={name: array + 1e-3 for name, array in base.items()})

        def forget(self) -> None:
            spool = tmp_path / "world" / "hospitals" / "0" / "spool"
            forgotten.append((spool / "00000001" / "entry.json").is_file())

    hospital = world.make_hospital(0, trainer=Trainer())
    hospital.train(world.coordinator.open_round())
    assert forgotten == [True]
    world.store.close()
