"""The part of a model that a round updates: what a configuration may say, and where it lies."""

from typing import Any

import numpy as np
import pytest

from ledger.errors import ConfigError, SpecMismatch
from ledger.manifest import Manifest, TensorSpec
from ledger.travels import PhaseTerms, runs, update_manifest

MODEL = Manifest(
    (
        TensorSpec(name="a", shape=(2, 3)),
        TensorSpec(name="b", shape=(4,)),
        TensorSpec(name="c", shape=()),
        TensorSpec(name="d.weight", shape=(5,)),
        TensorSpec(name="server_m/a", shape=(2, 3)),
        TensorSpec(name="server_v/a", shape=(2, 3)),
    )
)


def part(*names: str) -> Manifest:
    return update_manifest(MODEL, {"travels": list(names)})


def test_nothing_said_is_all_of_it() -> None:
    assert update_manifest(MODEL, {}) is MODEL


def test_the_part_keeps_the_manifests_order() -> None:
    assert [spec.name for spec in part("b", "d.weight").tensors] == ["b", "d.weight"]
    assert part("b", "d.weight").size == 9


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ([], "lists the names"),
        (None, "lists the names"),
        ("a", "lists the names"),
        ({"a": 1}, "lists the names"),
        (["a", 1], "lists the names"),
        (["b", "a"], "ascending"),
        (["a", "a"], "ascending"),
        (["a", "z"], "which the model has not"),
        (["a", "server_m/a"], "never sent"),
        (["server_v/a"], "never sent"),
    ],
)
def test_another_list_is_refused(said: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        update_manifest(MODEL, {"travels": said})


def test_runs_find_every_coordinate() -> None:
    whole = np.arange(MODEL.size)
    for update in (MODEL, part("a"), part("a", "b", "d.weight"), part("b", "c"), part("c")):
        found = np.zeros(update.size, dtype=np.int64)
        for run in runs(MODEL, update):
            found[run.update] = whole[run.model]
        model = MODEL.unflatten(whole.astype(np.float32))
        expected = update.flatten({spec.name: model[spec.name] for spec in update.tensors})
        assert np.array_equal(found, expected.astype(np.int64))
    assert len(runs(MODEL, MODEL)) == 1
    assert len(runs(MODEL, part("a", "b", "d.weight"))) == 2


@pytest.mark.parametrize("spec", [TensorSpec(name="z", shape=()), TensorSpec(name="a", shape=(6,))])
def test_runs_refuse_another_models_tensors(spec: TensorSpec) -> None:
    with pytest.raises(SpecMismatch, match="not those of the model"):
        runs(MODEL, Manifest((spec,)))


def test_a_phase_survives_its_configuration() -> None:
    terms = PhaseTerms(name="self-supervised", round=2, rounds=5)
    assert PhaseTerms.of_config({"phase": terms.to_config()}) == terms
    assert PhaseTerms.of_config({}) is None


@pytest.mark.parametrize(
    "said",
    [
        None,
        "supervised",
        {"name": "supervised"},
        {"name": "supervised", "round": 1, "rounds": 2, "more": 3},
        {"name": "Supervised", "round": 1, "rounds": 2},
        {"name": "", "round": 1, "rounds": 2},
        {"name": 7, "round": 1, "rounds": 2},
        {"name": "supervised", "round": 0, "rounds": 2},
        {"name": "supervised", "round": 3, "rounds": 2},
        {"name": "supervised", "round": True, "rounds": 2},
        {"name": "supervised", "round": 1, "rounds": 2.0},
        {"name": "supervised", "round": 1, "rounds": 10**7},
    ],
)
def test_an_odd_phase_is_refused(said: object) -> None:
    with pytest.raises(ConfigError):
        PhaseTerms.of_config({"phase": said})
