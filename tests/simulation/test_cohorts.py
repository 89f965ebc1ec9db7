"""Whose radiographs: any source, several sources, and what their silence becomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.data.deidentify import SiteKey
from client.data.pipeline import Preprocessing
from client.data.prepare import prepare
from client.data.records import FINDINGS, UNCERTAIN
from client.data.sources import load_source
from client.evaluate_local import LocalEvaluator
from client.shard import Shard, read_shard
from client.trainer import LocalTrainer
from ledger.errors import ConfigError, DataError
from ledger.manifest import decode_model
from simulation.cohorts import films_of, gather
from simulation.phantoms import write_phantoms
from simulation.planning import round_plan
from simulation.prepare import build_folder
from simulation.priors import UNPUBLISHED, nih_prior, public_prior
from simulation.progress import Steps
from simulation.settings import Settings


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("trees")
    return {
        layout: write_phantoms(home / layout, 12, 1, size=32, layout=layout).root
        for layout in ("nih", "chexpert", "dicom")
    }


@pytest.mark.parametrize("layout", ["nih", "chexpert", "dicom"])
def test_any_source_is_gathered(trees: dict[str, Path], layout: str, tmp_path: Path) -> None:
    found = gather(Settings(data=str(trees[layout]), hospitals=2, size=32), tmp_path)
    assert found.train.vocabulary == FINDINGS
    assert (found.test is None) == (layout == "dicom")
    rows = np.concatenate([np.concatenate([h.train, h.held]) for h in found.hospitals])
    assert sorted(rows.tolist()) == list(range(len(found.train)))


def test_sources_with_other_vocabularies_train_together(
    trees: dict[str, Path], tmp_path: Path
) -> None:
    settings = Settings(
        data=",".join(str(root) for root in trees.values()),
        hospitals=3,
        partition="source",
        size=32,
    )
    found = gather(settings, tmp_path)
    labels = found.train.label_matrix()
    silent = FINDINGS.index("Hernia")
    for hospital in found.hospitals:
        records = [found.train.records[i] for i in hospital.train]
        assert len({r.source for r in records}) == 1
        unknown = set(labels[hospital.train][:, silent].tolist()) == {-1}
        assert unknown == (records[0].source == "chexpert"), "silence is unknown, not absent"
        assert set(np.unique(labels[hospital.train])) <= {1, 0, -1}
    assert found.test is not None
    assert {r.source for r in found.test.records} == {"nih", "chexpert"}


def test_a_folder_that_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the known sources"):
        gather(Settings(data=str(tmp_path), size=32), tmp_path / "p")


def test_nobody_is_scored_on_what_was_trained_on(trees: dict[str, Path], tmp_path: Path) -> None:
    root = str(trees["dicom"])
    settings = Settings(data=root, test=f"{root}/../dicom", hospitals=2, size=32)
    with pytest.raises(ConfigError, match="no test list"):
        gather(settings, tmp_path)


def test_the_union_of_findings(trees: dict[str, Path], tmp_path: Path) -> None:
    settings = Settings(
        data=f"{trees['nih']},{trees['chexpert']}",
        hospitals=2,
        partition="source",
        findings="union",
        size=32,
        learner="cnn",
        learner_options={"width": 8},
        epsilon=0.0,
    )
    found = gather(settings, tmp_path / "p")
    assert found.train.vocabulary[:14] == FINDINGS
    assert "Fracture" in found.train.vocabulary
    draft = build_folder(settings, tmp_path / "run", Steps(quiet=True))
    assert draft.findings == found.train.vocabulary
    assert draft.learner.labels == len(draft.findings) == 20
    shard = read_shard(draft.folder / "hospitals" / "1" / "shard.npz")
    assert shard.train_labels.shape[1] == 20
    prior = public_prior(draft.findings)
    assert prior[:14] == nih_prior()
    assert all(0 < share < 1 for share in prior)
    assert public_prior(["Something_Else"]) == (UNPUBLISHED,)


def test_a_cache_gives_the_same_films(trees: dict[str, Path], tmp_path: Path) -> None:
    plain = Settings(data=str(trees["nih"]), size=32)
    cohort = gather(plain, tmp_path / "p").train
    kept = replace(plain, cache=str(tmp_path / "cache"))
    for _ in range(2):
        np.testing.assert_array_equal(films_of(kept, cohort), films_of(plain, cohort))
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_findings_are_one_of_three() -> None:
    with pytest.raises(ConfigError, match="findings are nih, union or abnormal"):
        Settings(findings="all")


def test_preprocessing_is_a_setting(trees: dict[str, Path], tmp_path: Path) -> None:
    base = Settings(data=str(trees["nih"]), hospitals=1, size=32, learner="cnn", epsilon=0.0)
    films = []
    for name, options in (("plain", {}), ("blurred", {"blur": "on"})):
        settings = replace(base, preprocess_options=options)
        draft = build_folder(settings, tmp_path / name, Steps(quiet=True))
        films.append(read_shard(draft.folder / "hospitals" / "0" / "shard.npz").train_pixels)
    assert films[0].shape == films[1].shape
    assert not np.array_equal(films[0], films[1])
    for wrong in ({"sharpen": "on"}, {"size": 3}, {"blur": "perhaps"}):
        with pytest.raises(ConfigError):
            build_folder(
                replace(base, preprocess_options=wrong), tmp_path / "no", Steps(quiet=True)
            )
    assert not (tmp_path / "no").exists()


@pytest.fixture(scope="module")
def strewn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a CheXpert tree large enough for every hospital to hold uncertain labels."""
    home = tmp_path_factory.mktemp("strewn") / "chexpert"
    return write_phantoms(home, 60, 1, size=32, layout="chexpert").root


def chexpert(root: Path, **changes: Any) -> Settings:
    settings = Settings(
        data=str(root),
        hospitals=2,
        findings="union",
        size=32,
        learner="cnn",
        learner_options={"width": 8},
        epsilon=0.0,
        self_epochs=1,
    )
    return replace(settings, **changes)


def shards(folder: Path) -> list[Shard]:
    return [read_shard(folder / "hospitals" / str(n) / "shard.npz") for n in range(2)]


def test_uncertain_labels_are_a_class_of_their_own(strewn: Path, tmp_path: Path) -> None:
    settings = chexpert(strewn, uncertain="multiclass")
    draft = build_folder(settings, tmp_path / "run", Steps(quiet=True))
    assert draft.learner.objective == "multiclass"
    assert draft.learner.outputs == 3 * len(draft.findings)
    plan = round_plan(settings, draft.learner, draft.manifest, draft.findings)
    for shard in shards(draft.folder):
        assert (shard.train_labels == UNCERTAIN).any()
        assert not (shard.held_labels == UNCERTAIN).any(), "scored on certain labels alone"
        assert shard.terms is not None
        assert plan.data == shard.terms.to_config()
        config = plan.config(draft.manifest, 1)
        trainer = LocalTrainer(
            pixels=shard.train_pixels, labels=shard.train_labels, terms=shard.terms
        )
        base = decode_model(
            (draft.folder / "models" / f"{draft.initial_model.hex()}.safetensors").read_bytes(),
            draft.manifest,
        )
        found = trainer(base, config, 1)
        scored = LocalEvaluator(pixels=shard.held_pixels, labels=shard.held_labels)
        assert scored(found.model, config)["loss"] > 0


def test_self_training_stays_in_the_hospital(strewn: Path, tmp_path: Path) -> None:
    runs = {}
    for policy in ("selftrained", "multiclass"):
        made = build_folder(
            chexpert(strewn, uncertain=policy), tmp_path / policy, Steps(quiet=True)
        )
        runs[policy] = made
    names = [
        sorted(str(p.relative_to(made.folder)) for p in made.folder.rglob("*") if p.is_file())
        for made in runs.values()
    ]
    assert [n for n in names[0] if "models" not in n] == [n for n in names[1] if "models" not in n]
    for drawn, stated in zip(*(shards(made.folder) for made in runs.values()), strict=True):
        asked = stated.train_labels == UNCERTAIN
        assert asked.any()
        assert set(np.unique(drawn.train_labels[asked])) <= {0, 1}
        np.testing.assert_array_equal(drawn.train_labels[~asked], stated.train_labels[~asked])
        assert drawn.terms is not None
        assert drawn.terms.uncertain == "selftrained"


@pytest.mark.parametrize(
    ("uncertain", "objective"), [("multiclass", "bce"), ("ignore", "multiclass")]
)
def test_policy_and_objective_go_together(
    strewn: Path, tmp_path: Path, uncertain: str, objective: str
) -> None:
    settings = chexpert(strewn, uncertain=uncertain, learner_options={"objective": objective})
    with pytest.raises(ConfigError, match="go together"):
        build_folder(settings, tmp_path / "run", Steps(quiet=True))


def test_films_prepared_otherwise_are_refused(trees: dict[str, Path], tmp_path: Path) -> None:
    prepare(
        load_source(trees["dicom"]),
        tmp_path / "set",
        Preprocessing(size=32),
        SiteKey(bytes(range(32))),
    )
    settings = Settings(
        data=str(tmp_path / "set"), hospitals=2, size=32, learner="cnn", epsilon=0.0
    )
    assert build_folder(settings, tmp_path / "same", Steps(quiet=True)).findings
    other = replace(settings, preprocess_options={"clahe": "on"})
    with pytest.raises(DataError, match="prepared by other steps"):
        build_folder(other, tmp_path / "other", Steps(quiet=True))
