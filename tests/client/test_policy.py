"""The policy file fails closed, and no configuration can ask for more than it allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.policy import TRAIN_LIMITS, Policy
from client.privacy_plan import plan_noise
from client.terms import FIELDS, RoundTerms
from client.train import TrainPlan
from ledger.canonical import canonical_json, sha256
from ledger.errors import PolicyError, PolicyViolation
from ledger.statement import Rules, Unit

RULES = Rules(federation_id=sha256(b"f"), initial_model=sha256(b"m"), privacy_unit=Unit.NONE)
PRIVATE = Rules(federation_id=sha256(b"f"), initial_model=sha256(b"m"))


def config(**changes: Any) -> dict[str, Any]:
    return {
        "format": "thoracle/round-config/v1",
        "manifest": [["w", "F32", [4]]],
        "quantiser": {"step_exponent": 15, "norm_bound": 1000},
        "learner": {"name": "vit"},
        "train": {"epochs": 1, "batch_size": 64, "threads": 1},
        "data": None,
        "privacy": None,
        "screen": {},
        "metrics": [],
        "round": 1,
        "rounds": 3,
        **changes,
    }


def terms(**changes: Any) -> RoundTerms:
    return RoundTerms.parse(canonical_json(config(**changes)))


def private(epsilon: float = 4.0, delta: float = 1e-5) -> dict[str, Any]:
    return plan_noise(epsilon=epsilon, delta=delta, sample_rate=0.1, steps=10, rounds=3).to_config()


def test_a_plain_round_passes_the_default_policy() -> None:
    Policy().check(terms(), RULES)


@pytest.mark.parametrize(
    ("policy", "change"),
    [
        (Policy(), {"metrics": ["auc"]}),
        (Policy(metrics=frozenset({"auc"})), {"metrics": ["auc", "loss"]}),
        (Policy(learners=frozenset({"cnn"})), {}),
        (Policy(), {"learner": {"name": 3}}),
        (Policy(max_coordinates=3), {}),
        (Policy(), {"quantiser": {"step_exponent": 5, "norm_bound": 1000}}),
        (Policy(max_update_norm=0.01), {}),
        (Policy(max_epochs=1), {"train": {"epochs": 2}}),
        (Policy(), {"train": {"epochs": 0}}),
        (Policy(), {"train": {"epochs": True}}),
        (Policy(), {"train": {"epochs": 1.5}}),
        (Policy(max_batch=32), {}),
        (Policy(max_threads=1), {"train": {"threads": 2}}),
        (Policy(privacy="patient"), {}),
        (Policy(), {"privacy": {"epsilon": 8}}),
    ],
)
def test_more_than_the_policy_allows(policy: Policy, change: dict[str, Any]) -> None:
    with pytest.raises(PolicyViolation):
        policy.check(terms(**change), RULES)


def test_privacy_as_strong_as_the_policy_passes() -> None:
    Policy(privacy="patient").check(terms(privacy=private()), PRIVATE)
    Policy().check(terms(privacy=private(epsilon=50.0)), PRIVATE)


@pytest.mark.parametrize(
    "asked",
    [
        None,
        private(epsilon=9.0),
        private(delta=1e-3),
        {**private(), "noise_multiplier": 0},
        {**private(), "noise_multiplier": 1},
        {**private(), "rounds": 300},
        {},
    ],
)
def test_privacy_weaker_than_the_policy(asked: dict[str, Any] | None) -> None:
    with pytest.raises(PolicyViolation):
        Policy(privacy="patient", max_epsilon=8.0).check(terms(privacy=asked), PRIVATE)


def test_the_unit_is_the_federations() -> None:
    rules = Rules(federation_id=sha256(b"f"), initial_model=sha256(b"m"), privacy_unit=Unit.IMAGE)
    with pytest.raises(PolicyViolation):
        Policy(privacy="patient").check(terms(privacy=private()), rules)
    Policy(privacy="image").check(terms(privacy={**private(), "unit": "image"}), rules)


# ---- the configuration itself ----


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_missing_field_is_refused(name: str) -> None:
    lacking = {key: value for key, value in config().items() if key != name}
    with pytest.raises(PolicyViolation):
        RoundTerms.parse(canonical_json(lacking))


@pytest.mark.parametrize("name", ["code", "data", "policy", "keys", "home"])
def test_an_unknown_field_is_refused(name: str) -> None:
    with pytest.raises(PolicyViolation):
        terms(**{name: "x"})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        canonical_json(config()) + b" ",
        canonical_json(config()).replace(b'"round":1', b'"round":1,"round":2'),
        b"{" * 10_000,
        b'{"a":' + b" " * (1 << 20) + b"1}",
        b"\xff",
    ],
)
def test_bytes_that_are_not_a_configuration(data: bytes) -> None:
    with pytest.raises(PolicyViolation):
        RoundTerms.parse(data)


@pytest.mark.parametrize(
    "change",
    [
        {"manifest": []},
        {"manifest": "w"},
        {"manifest": [["w", "F64", [4]]]},
        {"manifest": [["w", "F32", [10**12]]]},
        {"quantiser": {"step_exponent": 15}},
        {"quantiser": {"step_exponent": 15, "norm_bound": 0}},
        {"quantiser": {"step_exponent": 65, "norm_bound": 1}},
        {"quantiser": {"step_exponent": 15, "norm_bound": 1, "per_tensor": 1}},
        {"metrics": [1]},
        {"round": -1},
        {"round": True},
        {"privacy": 3},
        {"screen": None},
    ],
)
def test_fields_of_a_wrong_kind(change: dict[str, Any]) -> None:
    with pytest.raises(PolicyViolation):
        terms(**change)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_one_error(data: bytes) -> None:
    with pytest.raises(PolicyViolation):
        RoundTerms.parse(data)


def test_the_bounded_training_fields_exist() -> None:
    assert set(TRAIN_LIMITS) <= set(TrainPlan().describe())


# ---- the file ----


def load(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return Policy.load(path)


def test_a_missing_file_is_the_strict_default(tmp_path: Path) -> None:
    assert Policy.load(tmp_path / "policy.toml") == Policy()
    assert Policy().metrics == frozenset()
    assert not Policy().accept_quorum_only


def test_a_file_is_read(tmp_path: Path) -> None:
    found = load(
        tmp_path, 'metrics = ["auc"]\nprivacy = "patient"\nmax_epsilon = 3\ncontest = false\n'
    )
    assert found == Policy(
        metrics=frozenset({"auc"}), privacy="patient", max_epsilon=3.0, contest=False
    )


@pytest.mark.parametrize(
    "text",
    [
        "metric = ['auc']",  # misspelt: must not become "no limit"
        "metrics = 'auc'",
        "metrics = [1]",
        "contest = 1",
        "max_epochs = true",
        "max_epochs = 1.5",
        "max_epochs = 0",
        "max_epsilon = nan",
        "max_epsilon = inf",
        "max_delta = -1.0",
        "privacy = 'on'",
        "privacy = false",
        "not toml",
        "[server]\nurl = 'x'",
    ],
)
def test_filter_misconfigured(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyError):
        load(tmp_path, text)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyError):
        Policy.load(path)
    path.write_bytes(b"#" * (1 << 17))
    with pytest.raises(PolicyError):
        Policy.load(path)
