"""The bench: which cells a grid is made of, a stopped one goes on, and what is told of it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.checkpoint import Cadence
from client.data.nih import load_nih
from client.data.records import FINDINGS, Cohort, Record
from client.learners.ssganvit import options, presets
from ledger.errors import ConfigError, DataError, OutputError
from simulation import compare_cells, compare_central
from simulation.compare import CENTRAL, PRIVATE, read_cells
from simulation.compare_central import spans_of, train_centrally
from simulation.compare_command import compare
from simulation.compare_modes import by_mode
from simulation.compare_report import HEADS, markdown, read_records, rows_of
from simulation.phantoms import write_phantoms
from simulation.planning import learner_of
from simulation.progress import Steps
from simulation.stratify import stratified_split
from tests.simulation.asking import ask

GRID = """
[settings]
size = 32
batch_size = 16
learner_options = { width = 8 }
[modes.central]
epochs = 2
[modes.private]
epsilon = 3
[variants.focal]
learner_options = { objective = "focal" }
[grid]
learner = ["cnn"]
mode = ["central", "federated", "private"]
partition = ["iid", "silos"]
seed = [0, 1]
variant = ["plain", "focal"]
[[override]]
when = { variant = "focal", mode = "central" }
set = { epochs = 3 }
"""


def write(folder: Path, text: str = GRID) -> Path:
    path = folder / "grid.toml"
    path.write_text(text)
    return path


def test_initial_weights_count_by_their_bytes_and_no_path_is_kept(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"one")
    text = GRID.replace("[modes.central]", f'initial_weights = "{weights}"\n[modes.central]')
    path = write(tmp_path, text)
    cell = read_cells(path, f"{tmp_path}/nih, {tmp_path}/chexpert")[0]
    before = cell.digest({})
    assert str(tmp_path) not in json.dumps(cell.told())
    assert cell.told()["data"] == "nih,chexpert"
    assert read_cells(path, "elsewhere")[0].digest({}) == before  # the records count, not a place
    assert str(cell.told()["initial_weights"]).startswith("weights.pth:7692c3ad")
    weights.write_bytes(b"two")
    assert cell.digest({}) != before
    weights.unlink()
    with pytest.raises(ConfigError, match="initial weights"):
        cell.digest({})


def test_a_preset_that_changes_is_another_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a bench would call finished what was made with other values."""
    text = """
[settings]
size = 32
learner_options = { preset = "demo" }
rounds = 3
[modes.central]
[grid]
learner = ["ssganvit"]
mode = ["central"]
"""
    (cell,) = read_cells(write(tmp_path, text), "films")
    before = cell.digest({})
    with monkeypatch.context() as patch:
        demo = {**presets.PRESETS["demo"], "margin": 0.7}
        patch.setattr(options, "PRESETS", {**presets.PRESETS, "demo": demo})
        assert cell.digest({}) != before
    with monkeypatch.context() as patch:
        phases = {**presets._TRAIN["demo"]}
        phases["supervised"] = {**phases["supervised"], "learning_rate": 1.0}
        patch.setattr(presets, "_TRAIN", {**presets._TRAIN, "demo": phases})
        assert cell.digest({}) != before
    assert cell.digest({}) == before


def test_a_grid_is_every_combination_once(tmp_path: Path) -> None:
    cells = read_cells(write(tmp_path), "films")
    assert len({cell.name for cell in cells}) == len(cells) == 4 + 8 + 8  # central: no partition
    focal = next(cell for cell in cells if cell.variant == "focal" and cell.mode == CENTRAL)
    assert focal.settings.learner_options == {"width": 8, "objective": "focal"}
    assert focal.settings.epochs == 3
    assert {cell.settings.epsilon for cell in cells if cell.mode == PRIVATE} == {3.0}
    assert {cell.settings.epsilon for cell in cells if cell.mode != PRIVATE} == {0.0}


def test_the_committed_grid_holds_the_anchor() -> None:
    path = Path(__file__).parents[2] / "simulation" / "compare_nih.toml"
    cells = read_cells(path, "films")
    anchor = next(cell for cell in cells if cell.name == "resnet18_central_seed0")
    assert (anchor.settings.size, anchor.settings.epochs) == (64, 8)
    assert anchor.settings.learner_options["norm"] == "batch"
    assert {cell.mode for cell in cells} == {"central", "federated", "private"}


def test_a_digest_changes_with_what_matters_and_with_nothing_else(tmp_path: Path) -> None:
    def digest(text: str, place: str = "films", train: str = "a") -> str:
        return read_cells(write(tmp_path, text), place)[0].digest({"train": train})

    first = digest(GRID)
    assert digest(GRID, "elsewhere") == first  # the records count, not where they lie
    assert digest(GRID.replace("[settings]", "[settings]\ncpus = 2")) == first
    assert digest(GRID.replace("[settings]", "[settings]\nhospitals = 5")) == first  # central
    for changed in (
        digest(GRID, train="b"),
        digest(GRID.replace("epochs = 2", "epochs = 4")),
        digest(GRID.replace("width = 8", "width = 16")),
        digest(GRID.replace("seed = [0, 1]", "seed = [2]")),
    ):
        assert changed != first


@pytest.mark.parametrize(
    "text",
    [
        "[grid]\nseed = 0\n",
        "[settings]\nsize = 32\n",
        GRID + "[more]\na = 1\n",
        GRID.replace('"private"]', '"secret"]'),
        GRID.replace('"focal"]', '"vocal"]'),
        GRID.replace("[modes.central]", "[modes.central]\nepsilon = 3.0"),
        GRID.replace("epsilon = 3", 'epsilon = "off"'),
        GRID.replace("epsilon = 3", "epsilon = [3]"),
        GRID.replace("[modes.central]", "[modes]\ncentral = 3\n[modes.other]"),
        GRID.replace("when = {", "where = {"),
        GRID.replace('when = { variant = "focal"', 'when = { varaint = "focal"'),
        GRID.replace('["plain", "focal"]', '[["plain"]]'),
        "override = 3\n" + GRID.replace("[[override]]", "[variants.more]"),
    ],
)
def test_a_grid_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        read_cells(write(tmp_path, text), "films")


CENTRAL_ONLY = GRID.replace('["central", "federated", "private"]', '["central"]')
ONE = CENTRAL_ONLY.replace('["plain", "focal"]', '["plain"]')


def test_a_grid_is_made_once_and_told_of(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_central, "RESAMPLES", 20)
    grid, bench = write(tmp_path, ONE), tmp_path / "bench"
    found = json.loads(ask(compare, grid, "--out", bench, "--data", data, "--json"))
    assert len(found) == 1
    assert (found[0]["seeds"], found[0]["steps"]) == (2, 2)
    assert found[0]["low"] <= found[0]["macro_auc"] <= found[0]["high"]
    records = read_records(bench / "cells")
    assert {record["settings"]["seed"] for record in records} == {0, 1}
    for record in records:
        assert [point["at"] for point in record["curve"]] == [1, 2]
        assert record["curve"][-1]["macro_auc"] == record["evaluation"]["overall"]["macro_auc"]
        assert record["images"] < len(load_nih(data, "train"))  # patients were held back
    assert len({record["model"] for record in records}) == 2
    table = csv.DictReader(io.StringIO((bench / "table.csv").read_text()))
    assert float(next(table)["macro_auc"]) == found[0]["macro_auc"]
    assert "<svg" in (bench / "curves.svg").read_text()
    assert HEADS[7] in (bench / "table.md").read_text()

    def never(*_arguments: object, **_more: object) -> dict[str, object]:
        raise AssertionError("a finished cell was made again")

    monkeypatch.setattr(compare_cells, "run_cell", never)
    again = json.loads(ask(compare, grid, "--out", bench, "--data", data, "--json"))
    assert again == found
    assert json.loads(ask(compare, grid, "--out", bench, "--report", "--json")) == found
    shown = ask(compare, grid, "--out", bench, "--report", "--only", "seed1")
    assert "1 of 1 cells" in shown


def test_a_run_without_a_verified_round_is_no_result(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every hospital may have refused: the initial model's score must not pass for a training's."""
    grid = GRID.replace('["central", "federated", "private"]', '["federated"]')
    cell = read_cells(write(tmp_path, grid), str(data))[0]
    cohorts = compare_cells.gather_cell(cell, tmp_path / "scratch")

    def fail(_run: object, folder: Path) -> None:
        folder.mkdir()
        (folder / "metrics.csv").write_text("round,outcome\n1,ABORTED\n")

    monkeypatch.setattr(compare_cells, "make", fail)
    monkeypatch.setattr("simulation.chosen.choose", lambda _folder: None)
    with pytest.raises(DataError, match="was verified, so there is nothing"):
        compare_cells.run_cell(cell, cohorts, "00", tmp_path / "run", Steps(quiet=True))


def test_rounds_that_were_not_verified_are_told() -> None:
    (row,) = rows_of([record("federated", 0, 0.6) | {"verified": 0.0}])
    assert "| 1 (0 verified) |" in markdown([row])
    (row,) = rows_of([record("federated", 0, 0.6) | {"verified": 1}])
    assert "| 1 |" in markdown([row])


def test_a_stopped_cell_goes_on_to_the_same_model(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_central, "CADENCE", Cadence(seconds=1e9, steps=1))
    monkeypatch.setattr(compare_central, "RESAMPLES", 20)
    cell = read_cells(write(tmp_path, ONE), str(data))[0]
    cohorts = compare_cells.gather_cell(cell, tmp_path / "scratch")
    quiet = Steps(quiet=True)
    whole = train_centrally(cell, cohorts, tmp_path / "whole", quiet)

    class Stop(Exception):
        pass

    class Stopping(Steps):
        def say(self, what: str) -> None:
            if "epoch 1" in what:
                raise Stop

    with pytest.raises(Stop):
        train_centrally(cell, cohorts, tmp_path / "stopped", Stopping(quiet=True))
    assert len(json.loads((tmp_path / "stopped" / "curve.json").read_text())) == 1
    assert (tmp_path / "stopped" / "checkpoint").is_file()
    again = train_centrally(cell, cohorts, tmp_path / "stopped", quiet)
    assert [point["at"] for point in again["curve"]] == [1, 2]  # type: ignore[attr-defined]
    assert again["model"] == whole["model"]
    assert again["evaluation"] == whole["evaluation"]


PHASED = """
[settings]
size = 32
learner_options = { preset = "demo" }
[modes.central]
epochs = 3
[grid]
learner = ["ssganvit"]
mode = ["central"]
"""


def test_a_central_cell_goes_through_its_learner_s_phases(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_central, "RESAMPLES", 20)
    cell = read_cells(write(tmp_path, PHASED), str(data))[0]
    cohorts = compare_cells.gather_cell(cell, tmp_path / "scratch")
    spans = list(spans_of(cell.settings, learner_of(cell.settings)))
    assert [span.phase.name for span in spans] == [
        "adversarial", "self_supervised", "supervised",
    ]  # fmt: skip
    assert [(span.before, span.plan.epochs) for span in spans] == [(0, 1), (1, 1), (2, 1)]
    tables = [
        {"name": "adversarial", "rounds": 2, "epochs": 3},
        {"name": "supervised", "rounds": 4},
    ]
    other = replace(cell.settings, rounds=6, phases=tables)
    spans = list(spans_of(other, learner_of(other)))
    assert [(span.before, span.plan.epochs) for span in spans] == [(0, 6), (6, 4)]
    quiet = Steps(quiet=True)
    whole = train_centrally(cell, cohorts, tmp_path / "whole", quiet)
    assert not list((tmp_path / "whole").glob("*.safetensors"))

    class Stop(Exception):
        pass

    class Stopping(Steps):
        def say(self, what: str) -> None:
            if "epoch 2" in what:
                raise Stop

    with pytest.raises(Stop):
        train_centrally(cell, cohorts, tmp_path / "stopped", Stopping(quiet=True))
    assert [path.name for path in (tmp_path / "stopped").glob("*.safetensors")] == [
        "adversarial-0.safetensors"
    ]
    again = train_centrally(cell, cohorts, tmp_path / "stopped", quiet)
    assert again["model"] == whole["model"]
    curve: Any = again["curve"]
    assert [(point["at"], point["macro_auc"] is None) for point in curve] == [
        (1, True), (2, True), (3, False),
    ]  # fmt: skip


def test_a_bench_needs_a_test_list(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "films", 4, 0, size=32, test_share=0.0)
    cell = read_cells(write(tmp_path, ONE), str(tmp_path / "films"))[0]
    with pytest.raises(DataError):
        compare_cells.gather_cell(cell, tmp_path / "scratch")


def record(mode: str, seed: int, auc: float | None) -> dict[str, Any]:
    interval = None if auc is None else {"low": auc - 0.1, "high": auc + 0.1}
    evaluation = {
        "overall": {"macro_auc": auc}, "macro_auc_interval": interval,
        "within_view": {"AP": {"macro_auc": 0.5}, "PA": {"macro_auc": None}},
        "operating": {"weighted_f1": 0.2}, "calibration": {"brier": 0.1, "ece": None},
    }  # fmt: skip
    return {
        "mode": mode, "variant": "plain", "evaluation": evaluation if auc else None,
        "settings": {"learner": "cnn", "partition": "iid", "seed": seed, "data": "x"},
        "parameters": 1000, "seconds": 10.0 * (seed + 1), "bytes": 2**20,
        "curve": [{"at": 1, "federated_auc": 0.61}],
    }  # fmt: skip


def test_seeds_make_one_row_with_their_spread() -> None:
    rows = rows_of([record("federated", 0, 0.6), record("federated", 1, 0.7)])
    assert len(rows) == 1
    assert (rows[0].seeds, rows[0].seconds, rows[0].mebibytes) == (2, 15.0, 1.0)
    assert rows[0].macro_auc == pytest.approx(0.65)
    assert rows[0].spread == pytest.approx(0.1)
    assert [rows[0].low, rows[0].high] == pytest.approx([0.55, 0.75])
    assert (rows[0].auc_ap, rows[0].auc_pa, rows[0].federated_auc) == (0.5, None, 0.61)
    for odd in ({"versions": {"torch": "9"}}, {"data": {"train": "aa", "test": "bb"}}):
        newer = record("federated", 0, 0.9) | odd
        assert [row.seeds for row in rows_of([record("federated", 0, 0.6), newer])] == [1, 1]
    local = rows_of([record("federated", 0, None)])[0]
    assert (local.macro_auc, local.federated_auc) == (None, 0.61)
    assert "0.550 to 0.750" in markdown(rows)


def test_ways_of_training_stand_beside_each_other() -> None:
    whole = [
        record("private", 0, 0.6) | {"variant": "no_blocks"},
        record("federated", 0, 0.7),
        record("central", 0, 0.75),
        record("federated", 0, 0.72) | {"versions": {"torch": "9"}},
        record("federated", 0, None) | {"variant": "heads"},
    ]
    lines = by_mode(rows_of(whole)).splitlines()
    assert lines[0] == "| learner | variant | central | federated, iid | private, iid |"
    assert lines[2] == "| cnn | heads | – | 0.610 at hospitals | – |"
    assert lines[3].startswith("| cnn | no_blocks | – | – | 0.600 (0.500 to 0.700), F1 0.200")
    central, federated, private = lines[4].split(" | ")[2:]
    assert central.startswith("0.750 (0.650 to 0.850)")
    assert federated.startswith("0.700 (0.600 to 0.800)")
    assert " / 0.720 (0.620 to 0.820)" in federated
    assert private == "– |"
    assert len(lines) == 5


def test_a_target_tells_in_rounds_and_bytes_what_it_took() -> None:
    curve = [
        {"at": at, "federated_auc": auc, "bytes": at * 2**20}
        for at, auc in ((1, 0.55), (2, None), (3, 0.62), (4, 0.6))
    ]
    quick = record("federated", 0, 0.6) | {"curve": curve}
    slow = record("federated", 1, 0.6) | {"curve": [*curve[:2], {**curve[3], "federated_auc": 0.7}]}
    (row,) = rows_of([quick, slow], 0.6)
    assert (row.reached, row.reached_mebibytes) == (3.5, 3.5)
    assert markdown([row], 0.6).splitlines()[-1].endswith("| 3.5 | 3.5 |")
    (missed,) = rows_of([quick, slow], 0.65)
    assert (missed.reached, missed.reached_mebibytes) == (None, None)
    assert markdown([missed], 0.65).splitlines()[-1].endswith("| – | – |")


def test_a_wrong_option_of_the_last_cell_is_told_before_the_first_is_made(tmp_path: Path) -> None:
    grid = ONE.replace('["plain"]', '["plain", "focal"]').replace('"focal" }', '"vocal" }')
    with pytest.raises(ConfigError, match=r"cell cnn_focal_central_seed0: .*objective is one of"):
        ask(compare, write(tmp_path, grid), "--data", "nowhere", "--out", tmp_path / "bench")
    assert not (tmp_path / "bench").exists()


def test_a_bench_s_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bench").write_text("mine")
    with pytest.raises(OutputError, match="cannot be made"):
        ask(compare, write(tmp_path, ONE), "--data", "nowhere", "--out", tmp_path / "bench")
    assert (tmp_path / "bench").read_text() == "mine"


def test_nothing_finished_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cell"):
        read_records(tmp_path)
    (tmp_path / "odd.json").write_text("{}")
    with pytest.raises(DataError, match="odd"):
        read_records(tmp_path)


def patients(count: int) -> Cohort:
    """Two images each; the last finding in one patient of twenty, the first in every third."""
    generator = np.random.default_rng(0)
    records = []
    for patient in range(count):
        labels = [0] * len(FINDINGS)
        labels[0], labels[-1] = int(patient % 3 == 0), int(patient % 20 == 0)
        labels[4] = int(generator.random() < 0.2)
        records += [
            Record(
                image=Path("x"), image_id=f"{patient}-{n}", patient=str(patient),
                labels=tuple(labels),
            )
            for n in range(2)
        ]  # fmt: skip
    return Cohort(records=tuple(records), vocabulary=FINDINGS, source="made")


@pytest.mark.parametrize("seed", range(5))
def test_every_finding_is_held_back_alike(seed: int) -> None:
    cohort = patients(200)
    kept, held = stratified_split(cohort, 0.2, seed)
    assert sorted([*kept, *held]) == list(range(400))
    codes, labels = cohort.patient_codes(), cohort.label_matrix()
    assert not set(codes[kept]) & set(codes[held])
    assert abs(len(set(codes[held])) - 40) <= 2
    for finding, total in ((0, 67), (13, 10)):  # patients with it
        there = len(
            {int(code) for code in codes[held] if labels[held][codes[held] == code][0, finding]}
        )
        assert abs(there - 0.2 * total) <= 1
    again = stratified_split(cohort, 0.2, seed)
    assert np.array_equal(again[1], held)


def test_odd_shares_are_refused() -> None:
    with pytest.raises(ConfigError):
        stratified_split(patients(10), 0.8, 0)
    with pytest.raises(DataError):
        stratified_split(patients(1), 0.2, 0)
    assert len(stratified_split(patients(1), 0.0, 0)[1]) == 0
