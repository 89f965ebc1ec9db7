"""``findings = "abnormal"``: one label, from the data to training, scores and explanations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from client.data.boxes import BOXES
from client.data.nih import load_nih
from client.data.records import ABSENT, PRESENT, UNCERTAIN, UNKNOWN
from client.data.sources import load_source
from client.data.vocabulary import ABNORMAL, project
from client.learners.target import find_target
from client.shard import read_shard
from ledger.canonical import canonical_json
from simulation import compare_central
from simulation.chosen import choose
from simulation.cohorts import gather
from simulation.compare import read_cells
from simulation.compare_cells import gather_cell
from simulation.compare_central import train_centrally
from simulation.evaluate_command import evaluate
from simulation.explain import explain_film
from simulation.phantoms import write_phantoms
from simulation.planning import learner_of, round_plan
from simulation.pointing import play
from simulation.predict import FinalModel, calibration_of, open_model
from simulation.prepare import build_folder
from simulation.priors import public_prior
from simulation.progress import Steps
from simulation.provenance import Provenance
from simulation.run_record import Draft
from simulation.settings import Settings
from simulation.testset import read_test_set
from tests.simulation.asking import ask
from tests.simulation.test_compare import PHASED

OPTIONS: dict[str, Any] = {
    "findings": "abnormal", "hospitals": 2, "size": 32, "learner": "cnn", "epsilon": 0.0,
    "learner_options": {"width": 8},
}  # fmt: skip
GRID = PHASED.replace("[settings]", '[settings]\nfindings = "abnormal"')


@pytest.fixture(scope="module")
def draft(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Draft:
    """A run folder before its first round, and the record of it that scoring reads."""
    folder = tmp_path_factory.mktemp("abnormal") / "run"
    settings = Settings(data=str(data), partition="silos", **OPTIONS)
    made = build_folder(settings, folder, Steps(quiet=True))
    record = {
        "learner": made.learner.describe(),
        "manifest": made.manifest.to_json(),
        "initial_model": made.initial_model.hex(),
        "findings": list(made.findings),
    }
    (folder / "run.json").write_bytes(canonical_json(record))
    (folder / "metrics.csv").write_text(f"round,model\n1,{made.initial_model.hex()}\n")
    return made


def final(draft: Draft) -> FinalModel:
    """The initial model, as if a ledger had named it."""
    chosen = choose(draft.folder)
    learner, module = open_model(chosen)
    return FinalModel(chosen=chosen, origin=cast(Provenance, None), learner=learner, module=module)


def test_a_film_is_abnormal_unless_nothing_is_found(data: Path, tmp_path: Path) -> None:
    found = gather(Settings(data=str(data), **OPTIONS), tmp_path)
    assert found.train.vocabulary == (ABNORMAL,)
    assert found.test is not None
    for cohort, subset in ((found.train, "train"), (found.test, "test")):
        stated = load_nih(data, "train" if subset == "train" else "test").label_matrix()
        truth = (stated == PRESENT).any(axis=1)
        assert 0 < truth.sum() < len(truth)
        assert np.array_equal(cohort.label_matrix()[:, 0], truth)


def test_a_policy_for_uncertain_labels_decides_what_is_abnormal(tmp_path: Path) -> None:
    root = write_phantoms(tmp_path / "chexpert", 40, 1, size=32, layout="chexpert").root
    found = {}
    for policy in ("ignore", "zeros", "ones", "multiclass"):
        settings = Settings(data=str(root), uncertain=policy, **OPTIONS)
        found[policy] = gather(settings, tmp_path).train.label_matrix()[:, 0]
    unsure = found["multiclass"] == UNCERTAIN
    assert unsure.any()
    assert (found["ignore"][unsure] == UNKNOWN).all()
    assert (found["zeros"][unsure] == ABSENT).all()
    assert (found["ones"][unsure] == PRESENT).all()
    for labels in found.values():
        assert np.array_equal(labels[~unsure], found["ones"][~unsure])


def test_the_public_prior_is_the_release_s_share() -> None:
    shares = public_prior([ABNORMAL, "Hernia"])
    assert list(shares) == pytest.approx([1 - 60_361 / 112_120, 227 / 112_120])
    balanced = {**OPTIONS, "learner_options": {"balance": 1.0}}
    learner = learner_of(Settings(**balanced))
    assert (learner.labels, learner.prior) == (1, public_prior([ABNORMAL]))
    assert learner_of(Settings(**OPTIONS)).prior == learner.prior, "generators are asked by it"


def test_hospitals_hold_one_label_and_the_terms_name_it(draft: Draft, data: Path) -> None:
    assert (draft.findings, draft.learner.outputs) == ((ABNORMAL,), 1)
    for number in range(2):
        shard = read_shard(draft.folder / "hospitals" / str(number) / "shard.npz")
        assert shard.train_labels.shape[1:] == shard.held_labels.shape[1:] == (1,)
        assert shard.terms is not None
        assert shard.terms.findings == (ABNORMAL,)
    settings = Settings(data=str(data), **OPTIONS)
    plan = round_plan(settings, draft.learner, draft.manifest, draft.findings)
    assert plan.data is not None
    assert plan.data["findings"] == [ABNORMAL]
    bias = open_model(choose(draft.folder))[1].get_parameter("head.bias").detach()
    assert torch.sigmoid(bias).tolist() == pytest.approx(public_prior([ABNORMAL]), abs=1e-4)


def test_scoring_a_folder_is_scoring_the_run_s_own_test_set(draft: Draft, data: Path) -> None:
    own = read_test_set(draft.folder / "test.npz")
    cohort = project(load_source(data, "test"), draft.findings)
    assert np.array_equal(own.labels, cohort.label_matrix())
    told = [
        json.loads(ask(evaluate, draft.folder, *more, "--json", "--resamples", 20))
        for more in ((), ("--data", data))
    ]
    assert told[0]["overall"] == told[1]["overall"]
    (label,) = told[0]["overall"]["labels"]
    assert label["label"] == ABNORMAL
    assert label["auc"] == told[0]["overall"]["macro_auc"]
    assert label["positives"] == int((own.labels == PRESENT).sum())


def test_predictions_are_calibrated_and_explained(draft: Draft, data: Path) -> None:
    model = final(draft)
    kept = calibration_of(model.chosen, model.learner, model.module, 1)
    assert kept is not None
    assert kept.findings == (ABNORMAL,)
    film = load_nih(data, "test").records[0].image
    target = find_target(model.learner, model.module)
    found = explain_film(film, model, target, kept, top=3)
    assert [part.finding for part in found.parts] == [ABNORMAL]


def test_every_box_is_of_something_abnormal(draft: Draft, tmp_path: Path) -> None:
    root = write_phantoms(tmp_path / "nih", 12, 3, size=32, test_share=0.5).root
    names = [record.image_id for record in load_nih(root, "test").records[:2]]
    rows = [f"{names[0]},Mass,0,0,1024,1024", f"{names[0]},Nodule,0,0,9,9"]
    rows.append(f"{names[1]},Infiltrate,0,0,9,9")
    (root / BOXES).write_text("\n".join(["Image Index,Finding Label,Bbox [x,y,w,h],,,", *rows]))
    game = play(final(draft), root, "test")
    assert [(score.finding, score.films) for score in game.scores] == [(ABNORMAL, 2)]
    assert game.total.centre == 1


def test_all_phases_train_on_one_label_and_it_is_scored(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_central, "RESAMPLES", 20)
    (tmp_path / "grid.toml").write_text(GRID)
    cell = read_cells(tmp_path / "grid.toml", str(data))[0]
    made = train_centrally(
        cell, gather_cell(cell, tmp_path / "scratch"), tmp_path / "cell", Steps(quiet=True)
    )
    evaluation: Any = made["evaluation"]
    assert [label["label"] for label in evaluation["overall"]["labels"]] == [ABNORMAL]
    assert 0 <= evaluation["overall"]["macro_auc"] <= 1
    assert 0 <= evaluation["operating"]["weighted_f1"] <= 1
    curve: Any = made["curve"]
    assert [point["macro_auc"] is None for point in curve] == [True, True, False]
