"""The figures and picture of a partition, the feature shift, and their commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from ledger.errors import ConfigError, OutputError
from simulation.data_commands import register
from simulation.feature_shift import as_partitioned, draw_look, shift_features
from simulation.partition import partition
from simulation.partition_picture import describe, draw_partition
from tests.simulation.test_partition import COHORT


def test_figures_add_up() -> None:
    parts = partition(COHORT, 3, "silos", 0)
    rows = describe(COHORT, parts)
    assert [row["hospital"] for row in rows] == [1, 2, 3]
    assert sum(int(str(row["images"])) for row in rows) == len(COHORT)
    assert sum(int(str(row["patients"])) for row in rows) == len(COHORT.patients())
    totals = np.zeros(14, dtype=int)
    for row in rows:
        assert isinstance(row["present"], dict)
        totals += list(row["present"].values())
    assert totals.tolist() == (COHORT.label_matrix() == 1).sum(axis=0).tolist()
    json.dumps(rows, allow_nan=False)


def test_picture(tmp_path: Path) -> None:
    parts = partition(COHORT, 4, "dirichlet:0.5", 0)
    draw_partition(COHORT, parts, "four", tmp_path / "a" / "who.png")
    assert (tmp_path / "a" / "who.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        draw_partition(COHORT, parts, "four", tmp_path / "file" / "who.png")


FILMS = np.random.default_rng(0).integers(0, 256, (5, 1, 32, 32), dtype=np.uint8)


def test_each_hospital_has_its_own_steady_look() -> None:
    first = shift_features(FILMS, 0, 0.8, 1)
    assert first.shape == FILMS.shape
    assert first.dtype == np.uint8
    assert np.array_equal(first, shift_features(FILMS, 0, 0.8, 1))
    assert not np.array_equal(first, shift_features(FILMS, 1, 0.8, 1))
    assert draw_look(0, 0.8, 1) != draw_look(1, 0.8, 1)
    assert np.array_equal(shift_features(FILMS, 0, 0.0, 1), FILMS)


def test_shift_grows_with_strength() -> None:
    change = [
        np.mean(
            [np.abs(shift_features(FILMS, h, s, 1).astype(int) - FILMS).mean() for h in range(6)]
        )
        for s in (0.1, 0.5, 1.0)
    ]
    assert change[0] < change[1] < change[2]
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="feature shift"):
            shift_features(FILMS, 0, strength, 1)


def test_commands(tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)
    runner = CliRunner()
    made = runner.invoke(
        app, ["phantoms", str(tmp_path / "p"), "--patients", "9", "--size", "32", "--json"]
    )
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["patients"] == 9
    shown = runner.invoke(
        app,
        [
            "partition",
            str(tmp_path / "p"),
            "--partition",
            "iid",
            "--json",
            "--picture",
            str(tmp_path / "w.png"),
        ],
    )
    assert shown.exit_code == 0, shown.output
    assert len(json.loads(shown.stdout)["hospitals"]) == 3
    assert (tmp_path / "w.png").is_file()


def test_the_feature_scheme_shifts_and_the_others_do_not() -> None:
    assert not np.array_equal(as_partitioned(FILMS, 1, "feature:0.7", 3), FILMS)
    assert np.array_equal(as_partitioned(FILMS, 1, "silos", 3), FILMS)
    sizes = [len(part) for part in partition(COHORT, 3, "feature:0.7", 0)]
    assert sum(sizes) == len(COHORT)
    with pytest.raises(ConfigError, match="up to 1"):
        partition(COHORT, 3, "feature:1.5", 0)
