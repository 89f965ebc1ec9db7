"""Settings that documents send readers to are those that were measured."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from client.data.records import FINDINGS
from ledger.errors import ConfigError
from simulation.compare import read_cells
from simulation.planning import check_plans, learner_of, settings_in, train_plan
from simulation.prepare import initial_module
from simulation.settings import Settings, read_config, settings_from

NIH_TRAIN = 86_524
FOLDER = Path(__file__).parents[2] / "simulation"


@pytest.mark.parametrize(
    ("file", "grid", "cell"),
    [
        ("nih-ssganvit.toml", "silos", "ssganvit_divided_federated_silos_seed0"),
        ("nih-ssganvit-iid.toml", "ssganvit", "ssganvit_federated_iid_seed0"),
        ("nih-ssganvit-private.toml", "ssganvit", "ssganvit_private_silos_seed0"),
    ],
)
def test_a_user_s_file_is_the_bench_s_cell(file: str, grid: str, cell: str) -> None:
    cells = {one.name: one for one in read_cells(FOLDER / f"compare_{grid}.toml", "phantoms")}
    measured = cells[cell].settings
    mine = settings_from(read_config(FOLDER / file))
    # Where films are cached and how many processors there are changes no result.
    assert mine == replace(measured, cache=mine.cache, cpus=mine.cpus)


@pytest.mark.parametrize("learner", ["ssganvit", "mobilenetv2"])
def test_cells_of_what_helps_silos_differ_from_plain_ones_by_that_alone(learner: str) -> None:
    def cells(grid: str) -> dict[str, Settings]:
        found = read_cells(FOLDER / f"compare_{grid}.toml", "phantoms")
        return {one.name: one.settings for one in found}

    plain = cells("ssganvit" if learner == "ssganvit" else "ssganvit_base")
    before = plain[f"{learner}_federated_silos_seed0"]
    after = cells("silos")
    adjusted = after[f"{learner}_adjusted_federated_silos_seed0"]
    assert adjusted.train_options == {**before.train_options, "logit_adjustment": 1.0}
    assert adjusted.learner_options.get("objective", "bce") == "bce"  # whose logits are odds
    options = before.learner_options
    assert replace(adjusted, train_options=before.train_options, learner_options=options) == before
    divided = after[f"{learner}_divided_federated_silos_seed0"]
    assert (
        replace(
            divided,
            rounds=before.rounds,
            phases=before.phases,
            train_options=before.train_options,
        )
        == before
    )
    asked = [divided.train_options, *(each.get("train_options", {}) for each in divided.phases)]
    assert sum(options.get("parts", 0) for options in asked) == 4


RUNS = sorted(p.name for p in FOLDER.glob("*.toml") if not p.name.startswith(("compare", "util")))
GRIDS = sorted(p.name for p in FOLDER.glob("compare*.toml"))


@pytest.mark.parametrize("file", RUNS)
def test_every_shipped_run_can_be_trained(file: str) -> None:
    settings = settings_from(read_config(FOLDER / file))
    check_plans(settings, learner_of(settings))


@pytest.mark.parametrize("file", GRIDS)
def test_every_cell_of_a_shipped_grid_can_be_trained(file: str) -> None:
    cells = read_cells(FOLDER / file, "phantoms")
    assert len({cell.name for cell in cells}) == len(cells)
    for cell in cells:
        check_plans(cell.settings, learner_of(cell.settings))


def test_the_paper_s_run_takes_the_paper_s_steps() -> None:
    settings = settings_from(read_config(FOLDER / "paper.toml"))
    learner = learner_of(settings)
    assert learner.describe()["preset"] == "paper"
    tables = {table["name"]: table for table in settings.phases}
    plans = {name: train_plan(settings_in(settings, learner, t)) for name, t in tables.items()}
    adversarial = plans["adversarial"]
    trained = NIH_TRAIN / settings.hospitals * (1 - settings.held_back)
    a_pass = math.ceil(trained / adversarial.batch_size)
    assert 900 < a_pass * adversarial.epochs * tables["adversarial"]["rounds"] < 1100
    pretraining = plans["self_supervised"]
    assert pretraining.epochs * tables["self_supervised"]["rounds"] == 50
    assert (pretraining.learning_rate, pretraining.batch_size) == (3e-5, 32)
    assert pretraining.rate(1.0) == 0


def test_a_frozen_stem_without_weights_is_refused_before_anything_is_spent() -> None:
    settings = settings_from(read_config(FOLDER / "nih-ssganvit-private.toml"))
    bare = replace(settings, initial_weights="")
    with pytest.raises(ConfigError, match="give initial_weights"):
        initial_module(bare, learner_of(bare), FINDINGS)
