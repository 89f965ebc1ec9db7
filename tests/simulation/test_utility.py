"""The utility grid: which runs it is made of, and what is told of their kept files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger.errors import ConfigError, DataError
from simulation.utility import make, read_grid
from simulation.utility_report import PUBLIC, SCRATCH, markdown, plot, read_cells

GRID = """
[settings]
rounds = 2
[private]
steps = 7
[off]
epochs = 4
[grid]
warm_start = ["phantoms", ""]
epsilon = ["off", 8]
[[override]]
when = { warm_start = "", epsilon = 8 }
set = { learning_rate = 0.5 }
"""


def write(path: Path, text: str = GRID) -> Path:
    path.write_text(text)
    return path


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    runs = read_grid(write(tmp_path / "grid.toml"), "films")
    assert len({run.name for run in runs}) == 4
    found = {(run.settings.warm_start, run.settings.epsilon): run.settings for run in runs}
    assert {settings.data for settings in found.values()} == {"films"}
    assert [found["", e].epochs for e in (0.0, 8.0)] == [4, 1]
    assert found["", 8.0].steps == found["phantoms", 8.0].steps == 7
    assert found["", 8.0].learning_rate == 0.5
    assert found["phantoms", 8.0].learning_rate != 0.5


def test_the_committed_grid_is_the_issue_s() -> None:
    path = Path(__file__).parents[2] / "simulation" / "utility.toml"
    runs = read_grid(path, "films")
    assert {run.settings.epsilon for run in runs} == {0.0, 1.0, 3.0, 8.0}
    assert {run.settings.learner for run in runs} == {"vit"}
    assert len(runs) == 8


def test_an_override_has_the_last_word(tmp_path: Path) -> None:
    text = GRID.replace("learning_rate = 0.5", 'warm_start = "elsewhere"')
    runs = read_grid(write(tmp_path / "grid.toml", text), "films")
    assert sum(run.settings.warm_start == "elsewhere" for run in runs) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[grid]\nepsilon = 8\n",
        "[settings]\nrounds = 2\n",
        GRID + "[more]\na = 1\n",
        GRID.replace("set = {", "sets = {"),
        GRID.replace("[off]\nepochs = 4", "").replace("[settings]", "off = 4\n[settings]"),
    ],
)
def test_a_grid_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="a grid file"):
        read_grid(write(tmp_path / "grid.toml", text), "films")


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    run = read_grid(write(tmp_path / "grid.toml"), "no/such/folder")[0]
    folder = tmp_path / "run"
    (folder / "chain").mkdir(parents=True)
    (folder / "chain" / "bundle.json").write_text("{}")
    (folder / "metrics.csv").write_text("round\n1\n2\n")
    make(run, folder)
    (folder / "metrics.csv").write_text("round\n1\n")
    with pytest.raises(DataError, match="no/such/folder"):
        make(run, folder)


def keep(folder: Path, *, warm: bool, epsilon: float | None, auc: float) -> None:
    folder.mkdir(parents=True)
    privacy = {"epsilon_by_round": [1.0, epsilon], "noise_multiplier": 1_500_000}
    files: dict[str, object] = {
        "run.json": {
            "config": {"rounds": 2},
            "warm_start": {"source": "phantoms"} if warm else None,
            "privacy": privacy if epsilon else None,
        },
        "evaluate.json": {
            "overall": {"macro_auc": auc},
            "within_view": {"PA": {"macro_auc": 0.51}},
            "macro_auc_interval": {"low": auc - 0.02, "high": auc + 0.03},
        },
        "evaluate-initial.json": {"overall": {"macro_auc": 0.5}},
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    (folder / "metrics.csv").write_text("round,outcome\n1,SUM_VERIFIED\n2,ABORTED\n")


def test_the_table_and_the_picture_come_from_kept_files(tmp_path: Path) -> None:
    keep(tmp_path / "a", warm=True, epsilon=7.99, auc=0.58)
    keep(tmp_path / "b", warm=False, epsilon=None, auc=0.61)
    keep(tmp_path / "c", warm=False, epsilon=0.99, auc=0.52)
    cells = read_cells(tmp_path)
    assert [(c.start, c.epsilon) for c in cells] == [
        (SCRATCH, None),
        (SCRATCH, 0.99),
        (PUBLIC, 7.99),
    ]
    table = markdown(cells).splitlines()
    assert "| from scratch | none | – | 1 of 2 | 0.500 | 0.610 | 0.590 to 0.640 | – | 0.510 |" in (
        table
    )
    assert "1.50" in table[-1]
    plot(cells, tmp_path / "utility.svg")
    first = (tmp_path / "utility.svg").read_bytes()
    assert b"epsilon for each patient" in first
    plot(cells, tmp_path / "utility.svg")
    assert (tmp_path / "utility.svg").read_bytes() == first


def test_without_kept_files_there_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run"):
        read_cells(tmp_path)
    keep(tmp_path / "a", warm=True, epsilon=None, auc=0.5)
    (tmp_path / "a" / "run.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        read_cells(tmp_path)
