"""Preparing a run: whole or not at all, patients disjoint, wrong input named."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.shard import read_shard
from ledger.errors import (
    CohortTooSmall,
    ConfigError,
    DataError,
    OutputError,
    UnsupportedModule,
)
from simulation.planning import round_plan
from simulation.prepare import build_folder
from simulation.privacy import adam_noise, privacy_of
from simulation.progress import Steps
from simulation.settings import Settings
from simulation.testset import read_test_set

SMALL = Settings(
    patients=30, size=32, learner="cnn", learner_options={"width": 8}, commit_window=60, epsilon=0.0
)


def test_the_folder_is_whole_and_patients_stay_apart(tmp_path: Path) -> None:
    draft = build_folder(SMALL, tmp_path / "run", Steps(quiet=True))
    patients: list[set[int]] = []
    for number in range(3):
        home = draft.folder / "hospitals" / str(number)
        shard = read_shard(home / "shard.npz")
        patients.append(set(np.concatenate([shard.train_patients, shard.held_patients]).tolist()))
        assert shard.train_pixels.shape[1:] == (1, 32, 32)
        for name in ("shard.npz", "account.json", "password", "policy.toml"):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    assert not patients[0] & patients[1] | patients[1] & patients[2] | patients[0] & patients[2]
    assert len(read_test_set(draft.folder / "test.npz").pixels) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_same_seed_gives_the_same_initial_model(tmp_path: Path) -> None:
    digests = {
        build_folder(replace(SMALL, seed=seed), tmp_path / name, Steps(quiet=True)).initial_model
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    }
    assert len(digests) == 2


def phase(name: str = "supervised", **options: object) -> dict[str, Any]:
    """Return the table of a run's one phase."""
    return {"name": name, "rounds": SMALL.rounds, "train_options": options}


@pytest.mark.parametrize(
    ("settings", "error", "named"),
    [
        (replace(SMALL, hospitals=40), DataError, "cannot be split over 40 hospitals"),
        (replace(SMALL, learner="resnet9000"), ConfigError, "resnet9000"),
        (replace(SMALL, learner_options={"widht": 8}), ConfigError, "widht"),
        (replace(SMALL, train_options={"lr": 1.0}), ConfigError, "lr"),
        (replace(SMALL, learner_options={"input_size": 32}), ConfigError, "the setting size"),
        (replace(SMALL, learner_options={"labels": 3}), ConfigError, "the setting findings"),
        (
            replace(SMALL, learner="ssganvit", learner_options={"preset": [1]}),
            ConfigError,
            "preset is one of",
        ),
        (replace(SMALL, phases=[phase(lr=1.0)]), ConfigError, "lr"),
        (replace(SMALL, phases=[phase(name="odd")]), ConfigError, "odd"),
        (replace(SMALL, epsilon=8.0, phases=[phase(parts=2)]), ConfigError, "divides passes"),
        (
            replace(SMALL, epsilon=8.0, phases=[phase(logit_adjustment=1.0)]),
            ConfigError,
            "private labels",
        ),
        (
            replace(
                SMALL, learner_options={"objective": "focal"}, phases=[phase(logit_adjustment=1.0)]
            ),
            ConfigError,
            "objective bce",
        ),
        (replace(SMALL, data="no/such/folder"), DataError, "no/such/folder"),
        (replace(SMALL, epsilon=1e-6), ConfigError, "epsilon"),
        (replace(SMALL, epsilon=8.0, multiplicity=4), ConfigError, "say how they move"),
        (replace(SMALL, data="films", warm_start="films/../films"), ConfigError, "must be public"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_left(
    tmp_path: Path, settings: Settings, error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        build_folder(settings, tmp_path / "run", Steps(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not empty"):
        build_folder(SMALL, tmp_path / "run", Steps(quiet=True))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_private_plan_lets_no_metric_leave_and_floors_the_noise(tmp_path: Path) -> None:
    private = replace(SMALL, patients=100, epsilon=8.0)
    draft = build_folder(private, tmp_path / "run", Steps(quiet=True))
    plan = round_plan(private, draft.learner, draft.manifest, draft.findings)
    assert plan.metrics == ()
    assert plan.privacy is not None
    assert plan.screen.noise_floor > 0
    assert 'privacy = "patient"' in (draft.folder / "hospitals/0/policy.toml").read_text()
    assert round_plan(SMALL, draft.learner, draft.manifest, draft.findings).metrics


def test_a_private_run_says_what_it_will_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_folder(replace(SMALL, patients=100, epsilon=8.0), tmp_path / "run", Steps())
    build_folder(SMALL, tmp_path / "open", Steps())
    told = " ".join(capsys.readouterr().err.split())
    assert "Privacy: epsilon 8 for each patient of a hospital" in told
    assert "Without differential privacy" in told


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        (
            {"patients": 60},
            CohortTooSmall,
            r"privately on 1\d patients, fewer than 20: .*--epsilon off",
        ),
        (
            {"patients": 100, "learner": "vit", "learner_options": {"stem_norm": "batch"}},
            UnsupportedModule,
            "learner vit cannot be trained privately: .*batch normalisation.*--epsilon off",
        ),
    ],
)
def test_what_cannot_be_private_is_refused_before_anything_is_made(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        build_folder(replace(SMALL, epsilon=8.0, **changes), tmp_path / "run", Steps(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_adam_moves_by_its_rate_whatever_the_noise() -> None:
    assert adam_noise(2e-3, 20) == pytest.approx(2 * adam_noise(1e-3, 20), rel=1e-3)
    assert adam_noise(1e-3, 40) > adam_noise(1e-3, 10)


def test_privacy_off_is_no_privacy() -> None:
    from simulation.planning import train_plan

    assert privacy_of(SMALL, train_plan(SMALL)) is None
