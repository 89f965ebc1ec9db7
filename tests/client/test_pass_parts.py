"""A pass over a hospital's images, divided over several rounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client.pass_parts import part_of_pass
from client.self_train import local_plan
from client.train import TrainPlan, train
from client.trainer import only_plain
from ledger.errors import ConfigError, PolicyViolation
from simulation.compare_central import spans_of
from simulation.planning import learner_of, train_plan
from simulation.privacy import privacy_of
from simulation.settings import Settings
from tests.client.test_personal import data, learner


@pytest.mark.parametrize(("count", "parts"), [(10, 1), (10, 3), (7, 7), (100, 8)])
def test_the_parts_of_a_pass_are_all_images_once(count: int, parts: int) -> None:
    for done in range(3):
        turns = range(done * parts, (done + 1) * parts)
        found = [part_of_pass(count, parts, turn) for turn in turns]
        assert sorted(np.concatenate(found)) == list(range(count))
        assert max(map(len, found)) - min(map(len, found)) <= 1


def test_every_pass_is_cut_another_way_and_every_time_the_same() -> None:
    first, again, later = (part_of_pass(100, 4, turn) for turn in (0, 0, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, later)


def test_of_fewer_images_than_parts_each_part_has_one() -> None:
    assert [len(part_of_pass(3, 5, turn)) for turn in range(10)] == [1] * 10


def test_a_round_trains_on_its_part_alone() -> None:
    """Bit for bit what training on these images with an undivided pass gives."""
    family, (pixels, labels) = learner(), data()
    plan = TrainPlan(epochs=2, batch_size=4, parts=3).for_round(5, 9)
    rows = part_of_pass(len(pixels), 3, 4)
    divided, alone = family.build(3), family.build(3)
    told = train(divided, family, pixels, labels, plan, seed=1)
    train(
        alone, family, pixels[rows], labels[rows],
        TrainPlan(epochs=2, batch_size=4).for_round(5, 9), seed=1,
    )  # fmt: skip
    assert (told.steps, told.examples) == (2 * 2, 2 * len(rows))
    for one, other in zip(divided.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)


def test_label_odds_are_of_all_images_and_not_of_the_part() -> None:
    """Parts of one hospital would else teach odds of their own."""
    family = learner(prior=(0.5, 0.5))
    pixels, labels = data()
    rows = part_of_pass(len(pixels), 2, 0)
    labels[:] = 0
    labels[rows] = 1  # what the part shows is not what the hospital has
    losses = []
    for some in (labels, np.ones_like(labels)):
        module = family.build(3)
        plan = TrainPlan(batch_size=len(rows), parts=2, logit_adjustment=1.0)
        losses.append(train(module, family, pixels, some, plan, seed=0).loss)
    assert losses[0] > losses[1] + 0.5  # half of all, against all


def test_the_number_of_a_round_gives_its_turn_and_the_description_has_none() -> None:
    plan = TrainPlan(parts=4)
    assert [plan.for_round(number, 6).turn for number in (1, 2, 6)] == [0, 1, 5]
    assert "turn" not in plan.describe()
    assert TrainPlan.from_description(plan.describe()) == plan
    with pytest.raises(ConfigError, match="turn"):
        TrainPlan.from_description({**plan.describe(), "turn": 1})
    for parts in (0, 1001, 1.5, True):
        with pytest.raises(ConfigError, match="parts"):
            TrainPlan(parts=parts)  # type: ignore[arg-type]


def test_where_nothing_is_averaged_or_no_pass_is_made_no_pass_is_divided() -> None:
    assert local_plan(TrainPlan(parts=4).for_round(3, 4), 2) == TrainPlan(epochs=2)
    settings = Settings(learner="cnn", size=32, epochs=3, epsilon=0.0, train_options={"parts": 4})
    assert [span.plan.parts for span in spans_of(settings, learner_of(settings))] == [1]
    phased = Settings(
        size=32, epsilon=0.0, learner_options={"preset": "demo"}, train_options={"parts": 4}
    )
    assert {span.plan.parts for span in spans_of(phased, learner_of(phased))} == {1}
    with pytest.raises(PolicyViolation, match="divides passes"):
        only_plain(learner(), TrainPlan(parts=2))
    private = Settings(learner="cnn", size=32, train_options={"parts": 2})
    with pytest.raises(ConfigError, match="divides passes"):
        privacy_of(private, train_plan(private))
