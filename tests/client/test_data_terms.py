"""Findings and preprocessing are terms of the federation: who has others refuses by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.data.pipeline import Preprocessing
from client.data.records import FINDINGS
from client.data_terms import DataTerms, check_data
from client.home import training_of
from client.learners import get_learner, module_to_model
from client.policy import Policy
from client.shard import Shard, read_shard, write_shard
from client.terms import RoundTerms
from client.train import TrainPlan
from client.trainer import LocalTrainer
from ledger.canonical import canonical_json, config_digest
from ledger.errors import DataError, DataMismatch, PolicyViolation
from ledger.manifest import Manifest
from tests.client.test_app import SPEC, shard
from tests.client.test_policy import config as round_config

TERMS = DataTerms(findings=FINDINGS, preprocessing=Preprocessing(size=16).config())


def asked(terms: DataTerms | None) -> dict[str, Any]:
    return {"data": None if terms is None else terms.to_config()}


def changed(**parameters: object) -> DataTerms:
    return replace(TERMS, preprocessing={**TERMS.preprocessing, **parameters})


def test_terms_come_back_and_are_in_the_digest() -> None:
    config = round_config(data=TERMS.to_config())
    assert RoundTerms.parse(canonical_json(config)).data == TERMS
    assert RoundTerms.parse(canonical_json(round_config(data=None))).data is None
    other = round_config(data=changed(clahe_clip=3.0).to_config())
    assert config_digest(config) != config_digest(other)
    check_data(TERMS, config)
    check_data(None, round_config())


SWAPPED = (FINDINGS[1], FINDINGS[0], *FINDINGS[2:])


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        (changed(clahe="on"), "preprocessing clahe: 'on'; this hospital's data: 'auto'"),
        (changed(size=32), "preprocessing size: 32; this hospital's data: 16"),
        (changed(unheard_of=1), "preprocessing unheard_of: 1; this hospital's data: None"),
        (replace(TERMS, findings=SWAPPED), "output 0 is Cardiomegaly.*output 0 is Atelectasis"),
        (replace(TERMS, findings=FINDINGS[:-1]), r"output 13 is \(none\).*output 13 is Hernia"),
        (replace(TERMS, findings=(*FINDINGS, "Fracture")), "output 14 is Fracture"),
        (replace(TERMS, uncertain="ones"), "uncertain: 'ones'; this hospital's data: 'ignore'"),
        (None, "the round does not say"),
    ],
)
def test_a_hospital_with_other_data_refuses(terms: DataTerms | None, says: str) -> None:
    with pytest.raises(DataMismatch, match=says):
        check_data(TERMS, asked(terms))


def test_a_hospital_that_does_not_know_refuses() -> None:
    with pytest.raises(DataMismatch, match="this hospital's data do not say"):
        check_data(None, asked(TERMS))


@pytest.mark.parametrize(
    "change",
    [
        {"data": []},
        {"data": {}},
        {"data": {**TERMS.to_config(), "path": "/somewhere"}},
        {"data": {**TERMS.to_config(), "findings": []}},
        {"data": {**TERMS.to_config(), "findings": ["Mass", "Mass"]}},
        {"data": {**TERMS.to_config(), "findings": ["Mass", 1]}},
        {"data": {**TERMS.to_config(), "findings": [f"f{n}" for n in range(257)]}},
        {"data": {**TERMS.to_config(), "preprocessing": {}}},
        {"data": {**TERMS.to_config(), "preprocessing": {"clahe": ["on"]}}},
        {"data": {**TERMS.to_config(), "preprocessing": {"clahe": "x" * 101}}},
        {"data": {**TERMS.to_config(), "uncertain": None}},
    ],
)
def test_malformed_terms(change: dict[str, Any]) -> None:
    with pytest.raises(PolicyViolation):
        RoundTerms.parse(canonical_json(round_config(**change)))


def test_a_configuration_without_the_field_is_of_another_version() -> None:
    config = round_config()
    del config["data"]
    with pytest.raises(PolicyViolation, match="data"):
        RoundTerms.parse(canonical_json(config))


def described(**changes: Any) -> Shard:
    pixels = {f"{side}_pixels": np.zeros((n, 1, 16, 16), np.uint8) for side, n in SIDES}
    return shard(**pixels, terms=TERMS, **changes)


SIDES = (("train", 4), ("held", 2))


def test_terms_lie_with_the_data(tmp_path: Path) -> None:
    write_shard(tmp_path / "shard.npz", described())
    assert read_shard(tmp_path / "shard.npz").terms == TERMS
    with pytest.raises(DataError, match="labels are not of 14"):
        described(train_labels=np.zeros((4, 15), np.int8))
    with np.load(tmp_path / "shard.npz", allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    np.savez(tmp_path / "bad.npz", **{**arrays, "terms": np.frombuffer(b'{"a":1}', np.uint8)})
    with pytest.raises(DataError, match="how the hospital's data were prepared"):
        read_shard(tmp_path / "bad.npz")


@pytest.mark.parametrize("privacy", ["off", "patient"])
def test_a_homes_trainer_checks_before_any_training(tmp_path: Path, privacy: str) -> None:
    trainer, _guard = training_of(tmp_path, SPEC, Policy(privacy=privacy), described())
    for terms in (changed(blur="off"), None):
        with pytest.raises(DataMismatch):
            trainer.check(asked(terms))  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrong", [{"labels": 13}, {"input_size": 32}])
def test_a_learner_that_does_not_fit_the_terms(wrong: dict[str, int]) -> None:
    learner = get_learner("cnn", **{"input_size": 16, "labels": 14, "width": 8, **wrong})
    module = learner.build(0)
    model = module_to_model(module, learner.shared(module))
    config = {
        "manifest": Manifest.of_model(model).to_json(),
        "learner": learner.describe(),
        "train": TrainPlan(epochs=1).describe(),
        "privacy": None,
        "round": 1,
        "rounds": 1,
        **asked(TERMS),
    }
    data = described()
    trainer = LocalTrainer(pixels=data.train_pixels, labels=data.train_labels, terms=TERMS)
    with pytest.raises(PolicyViolation):
        trainer.check(config)
