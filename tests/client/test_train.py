"""Local training: it learns, it repeats bit for bit, and it leaves nothing behind."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from client.evaluate_local import LOCAL_METRICS, LocalEvaluator, score_held_back
from client.learners import get_learner, module_to_model
from client.learners.augment import Augmentation
from client.learners.inference import predict
from client.learners.interface import Learner
from client.learners.metrics import score
from client.train import TrainPlan, train
from ledger.errors import ConfigError, DataError, NonFiniteUpdate, PolicyViolation, SpecMismatch
from ledger.manifest import encode_model

PLAN = TrainPlan(epochs=1, batch_size=16, learning_rate=3e-3)
LEARNERS: dict[str, Learner] = {
    "vit": get_learner("vit", width=32, depth=1, heads=2, input_size=32, labels=2, dropout=0.1),
    "cnn": get_learner("cnn", width=8, input_size=32, labels=2),
}


def blobs(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise images with a bright square: in the upper half (label 0), on the left (label 1)."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, (count, 2)).astype(np.int8)
    images = generator.integers(0, 60, (count, 1, 32, 32), dtype=np.uint8)
    for image, (upper, left) in zip(images, labels, strict=True):
        row, column = 4 if upper else 20, 4 if left else 20
        image[0, row : row + 8, column : column + 8] += 120
    return images, labels


def run(name: str, plan: TrainPlan = PLAN, seed: int = 0) -> bytes:
    learner = LEARNERS[name]
    module = learner.build(0)
    train(module, learner, *blobs(40), plan, seed=seed)
    return encode_model(module_to_model(module, learner.shared(module)))


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_it_learns(name: str) -> None:
    learner = LEARNERS[name]
    module = learner.build(0, [0.5, 0.5])
    outcome = train(module, learner, *blobs(200), replace(PLAN, epochs=5), seed=1)
    images, labels = blobs(100, seed=9)
    found = score(predict(module, learner, images), labels, ("upper", "left")).macro_auc
    assert found is not None
    assert found > 0.9
    assert outcome.loss < 0.5
    assert (outcome.steps, outcome.examples) == (5 * 13, 1000)


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_equal_seeds_train_equal_models(name: str) -> None:
    moved = replace(PLAN, augmentation=Augmentation(shift=0.1))
    assert run(name, moved) == run(name, moved)
    assert run(name, moved) != run(name, moved, seed=1)
    assert run(name, moved) != run(name)


def test_nothing_global_matters_or_changes() -> None:
    first = run("vit")
    torch.manual_seed(99)
    np.random.seed(99)
    threads = torch.get_num_threads()
    state = torch.get_rng_state()
    assert run("vit") == first
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_state_is_restored_after_a_failure() -> None:
    def broken(*_args: object) -> float:
        raise RuntimeError("hospital on fire")

    learner = LEARNERS["cnn"]
    module = learner.build(0).eval()
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError):
        train(module, learner, *blobs(8), PLAN, seed=0, step=broken)
    assert not module.training
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()


def test_every_image_is_seen_once_an_epoch_in_a_seeded_order() -> None:
    seen: list[int] = []
    learner = LEARNERS["cnn"]
    images, labels = blobs(10)
    told: list[tuple[int, int]] = []

    def watch(batch: Tensor, _labels: Tensor, _at: float) -> float:
        for row in batch:
            expected = images.astype(np.float32)
            expected = (expected - expected.mean((1, 2, 3), keepdims=True)) / expected.std(
                (1, 2, 3), keepdims=True
            )
            seen.append(int(np.abs(expected - row.numpy()).sum((1, 2, 3)).argmin()))
        return 0.25

    plan = TrainPlan(epochs=2, batch_size=4)
    outcome = train(
        learner.build(0), learner, images, labels, plan, seed=3, step=watch,
        progress=lambda *at: told.append(at),
    )  # fmt: skip
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert told == [(n, 6) for n in range(1, 7)]
    assert outcome.loss == pytest.approx(0.25)
    assert outcome.positives == tuple(labels.sum(axis=0).tolist())


def test_unknown_labels_do_not_train_their_output() -> None:
    learner = LEARNERS["cnn"]
    module = learner.build(0)
    before = learner.head(module).weight.detach().clone()
    images, labels = blobs(20)
    labels[:, 1] = -1
    train(module, learner, images, labels, replace(PLAN, weight_decay=0.0), seed=0)
    after = learner.head(module).weight.detach()
    assert torch.equal(after[1], before[1])
    assert not torch.equal(after[0], before[0])


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((0, 1, 32, 32), np.uint8), np.zeros((0, 2), np.int8)),
        (np.zeros((4, 1, 32, 32), np.float32), np.zeros((4, 2), np.int8)),
        (np.zeros((4, 3, 32, 32), np.uint8), np.zeros((4, 2), np.int8)),
        (np.zeros((4, 1, 64, 64), np.uint8), np.zeros((4, 2), np.int8)),
        (np.zeros((4, 1, 32, 32), np.uint8), np.zeros((3, 2), np.int8)),
        (np.zeros((4, 1, 32, 32), np.uint8), np.zeros((4, 2), np.int64)),
        (np.zeros((4, 1, 32, 32), np.uint8), np.full((4, 2), -3, np.int8)),
    ],
)
def test_data_that_does_not_fit_is_refused(images: np.ndarray, labels: np.ndarray) -> None:
    learner = LEARNERS["cnn"]
    with pytest.raises(DataError):
        train(learner.build(0), learner, images, labels, PLAN, seed=0)


def test_divergence_is_named() -> None:
    learner = LEARNERS["cnn"]
    module = learner.build(0)
    with torch.no_grad():
        learner.head(module).weight.fill_(float("inf"))
    with pytest.raises(NonFiniteUpdate):
        train(module, learner, *blobs(8), PLAN, seed=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"epochs": True},
        {"batch_size": 0},
        {"threads": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"weight_decay": -0.1},
        {"warmup": 0.9},
        {"final_share": 2},
        {"clip_norm": 0.0},
        {"optimiser": "lion"},
        {"span": (0.5, 0.5)},
        {"free_rate": 0.0},
        {"betas": (0.9, 1.0)},
        {"betas": [0.9]},
    ],
)
def test_odd_plans_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        TrainPlan(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd"])
def test_a_plan_survives_its_description(optimiser: str) -> None:
    plan = TrainPlan(
        optimiser=optimiser, betas=(0.5, 0.99), augmentation=Augmentation(shift=0.1, flip=True)
    )
    assert TrainPlan.from_description(plan.describe()) == plan
    assert run("cnn", plan)


@pytest.mark.parametrize(
    "values", [{"speed": 9}, {"span": [0, 1]}, {"augmentation": 3}, {"augmentation": {"hue": 1}}]
)
def test_an_odd_description_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        TrainPlan.from_description(values)


def test_the_rate_runs_on_across_rounds() -> None:
    plan = TrainPlan(learning_rate=1.0, warmup=0.1, final_share=0.1)
    rounds = [plan.for_round(number, 4) for number in range(1, 5)]
    assert rounds[0].rate(0) == 0
    assert rounds[3].rate(1) == pytest.approx(0.1)
    for before, after in pairwise(rounds):
        assert before.rate(1) == pytest.approx(after.rate(0))
    assert max(each.rate(share / 50) for each in rounds for share in range(51)) == pytest.approx(1)
    with pytest.raises(ConfigError):
        plan.for_round(5, 4)


def test_a_learners_rate_share_reaches_the_optimiser() -> None:
    quick, slow = (
        replace(LEARNERS["vit"], block_rate=share)  # type: ignore[call-arg]
        for share in (1.0, 0.1)
    )
    moved = []
    for learner in (quick, slow):
        module = learner.build(0)
        before = module.get_parameter("blocks.0.attn.qkv.weight").detach().clone()
        train(module, learner, *blobs(16), replace(PLAN, warmup=0.0), seed=0)
        moved.append(
            (module.get_parameter("blocks.0.attn.qkv.weight").detach() - before).abs().max()
        )
    assert float(moved[0] / moved[1]) == pytest.approx(10, rel=0.2)


def test_a_hospital_scores_its_held_back_patients() -> None:
    learner = LEARNERS["cnn"]
    module = learner.build(0, [0.5, 0.5])
    train(module, learner, *blobs(200), replace(PLAN, epochs=5), seed=1)
    model = module_to_model(module, learner.shared(module))
    images, labels = blobs(60, seed=5)
    found = score_held_back(model, learner, images, labels)
    assert set(found) == set(LOCAL_METRICS)
    assert found["auc"] > 0.9
    assert (found["images"], found["labels_scored"]) == (60.0, 2.0)
    evaluator = LocalEvaluator(pixels=images, labels=labels)
    assert evaluator(model, {"learner": learner.describe()}) == found
    single = score_held_back(model, learner, images[:1], labels[:1])
    assert "auc" not in single
    assert np.isfinite(list(single.values())).all()


def test_scoring_refuses_what_it_cannot_use() -> None:
    learner = LEARNERS["cnn"]
    module = learner.build(0)
    model = module_to_model(module, learner.shared(module))
    images, labels = blobs(4)
    with pytest.raises(DataError):
        score_held_back(model, learner, images[:0], labels[:0])
    with pytest.raises(SpecMismatch):
        score_held_back({}, learner, images, labels)
    with pytest.raises(PolicyViolation):
        LocalEvaluator(pixels=images, labels=labels)(model, {})
