"""FedAdam and FedYogi: the normative formula, and a federation that proves it round by round."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ledger.audit import audit
from ledger.canonical import canonical_json, parse_json
from ledger.errors import ConfigError, ModelDigestMismatch, NonFiniteUpdate, SpecMismatch
from ledger.facts import Facts
from ledger.manifest import Manifest, Model, decode_model, encode_model
from ledger.quantise import apply_sum
from ledger.server_rule import FEDADAM, FEDAVG, FEDYOGI, ServerRule, moment_names, next_model
from ledger.statement import Outcome
from ledger.travels import update_manifest
from server import draft
from tests.attacks.auditing import facts_of
from tests.world import Setting, World

WEIGHT, STEP = 96, 12


def model_of(seed: int = 0) -> Model:
    generator = np.random.default_rng(seed)
    model: Model = {}
    for name, shape in (("a.weight", (3, 4)), ("b", (5,))):
        first, second = moment_names(name)
        model[name] = generator.normal(0, 0.1, shape).astype(np.float32)
        model[first] = generator.normal(0, 0.01, shape).astype(np.float32)
        model[second] = np.square(generator.normal(0, 0.05, shape)).astype(np.float32)
    model["running.mean"] = generator.normal(0, 1, (2,)).astype(np.float32)
    return model


def sum_of(manifest: Manifest, seed: int = 1) -> NDArray[np.int64]:
    generator = np.random.default_rng(seed)
    return generator.integers(-500 * WEIGHT, 500 * WEIGHT, manifest.size).astype(np.int64)


def by_hand(name: str, x: float, m: float, v: float, total: int) -> tuple[float, float, float]:
    """The formula again, in Python's own floats, one value at a time."""
    rule = ServerRule(name=name)
    delta = (float(total) * 2.0**-STEP) / float(WEIGHT)
    squared = delta * delta
    grown = (1.0 - rule.beta2) * squared
    if name == FEDADAM:
        second = rule.beta2 * v + grown
    else:
        second = v - grown * math.copysign(1.0, v - squared) if v != squared else v
    first = float(np.float32(rule.beta1 * m + (1.0 - rule.beta1) * delta))
    second = float(np.float32(max(second, 0.0)))
    moved = x + rule.rate * first / (math.sqrt(second) + rule.tau)
    return float(np.float32(moved)), first, second


@pytest.mark.parametrize("name", [FEDADAM, FEDYOGI])
def test_every_value_is_the_formulas_to_the_last_bit(name: str) -> None:
    model = model_of()
    manifest = Manifest.of_model(model)
    total = sum_of(manifest)
    base = manifest.flatten(model)
    found = manifest.unflatten(
        next_model(manifest, manifest, base, total, WEIGHT, STEP, ServerRule(name=name))
    )
    sums = manifest.unflatten(total.astype(np.float32))  # below 2^24, so exact
    for key in ("a.weight", "b"):
        first, second = moment_names(key)
        arrays = (model[key], model[first], model[second], sums[key])
        for place in np.ndindex(model[key].shape):
            x, m, v, s = (float(array[place]) for array in arrays)
            expected = by_hand(name, x, m, v, int(s))
            got = [float(found[part][place]) for part in (key, first, second)]
            assert got == list(expected)
    averaged = manifest.unflatten(apply_sum(base, total, WEIGHT, STEP))
    assert np.array_equal(found["running.mean"], averaged["running.mean"])


def test_whatever_the_sum_holds_for_moments_is_ignored() -> None:
    model = model_of()
    manifest = Manifest.of_model(model)
    total = sum_of(manifest)
    other = {n: p.copy() for n, p in manifest.unflatten(total.astype(np.float32)).items()}
    for name in other:
        if name.startswith("server_"):
            other[name][:] = 77
    changed = manifest.flatten(other).astype(np.int64)
    rule, base = ServerRule(name=FEDADAM), manifest.flatten(model)
    one, two = (
        next_model(manifest, manifest, base, s, WEIGHT, STEP, rule) for s in (total, changed)
    )
    assert not np.array_equal(total, changed)
    assert np.array_equal(one, two)


TRAVELLING = (["a.weight"], ["b", "running.mean"], ["a.weight", "running.mean"])


@pytest.mark.parametrize("name", [FEDAVG, FEDADAM, FEDYOGI])
@pytest.mark.parametrize("travels", TRAVELLING)
def test_what_does_not_travel_stays_bit_for_bit(name: str, travels: list[str]) -> None:
    model = model_of()
    manifest = Manifest.of_model(model)
    update = update_manifest(manifest, {"travels": travels})
    whole, rule = sum_of(manifest), ServerRule(name=name)
    place = np.concatenate(
        [np.flatnonzero(mask_of(manifest, travelling)) for travelling in travels]
    )
    base = manifest.flatten(model)
    part = next_model(manifest, update, base, whole[place], WEIGHT, STEP, rule)
    # What travels is what it would be where all does; the rest, moments too, is the base's.
    all_of_it = next_model(manifest, manifest, base, whole, WEIGHT, STEP, rule)
    moved = set(travels)
    if rule.adaptive:
        moved |= {moment for each in travels for moment in moment_names(each)} & set(model)
    for tensor, array in manifest.unflatten(part).items():
        expected = manifest.unflatten(all_of_it)[tensor] if tensor in moved else model[tensor]
        assert np.array_equal(array, expected)
        assert tensor in moved or array.tobytes() == model[tensor].tobytes()
    assert np.array_equal(base, manifest.flatten(model))


def mask_of(manifest: Manifest, name: str) -> NDArray[np.float32]:
    marked = {s.name: np.full(s.shape, s.name == name, np.float32) for s in manifest.tensors}
    return manifest.flatten(marked)


def test_a_sum_of_another_part_is_refused() -> None:
    manifest = Manifest.of_model(model_of())
    update = update_manifest(manifest, {"travels": ["b"]})
    base, total = manifest.flatten(model_of()), sum_of(manifest)
    with pytest.raises(SpecMismatch, match="not vectors of"):
        next_model(manifest, update, base, total, WEIGHT, STEP, ServerRule())
    with pytest.raises(SpecMismatch, match="not vectors of"):
        next_model(manifest, manifest, base[:-1], total, WEIGHT, STEP, ServerRule())


def test_fedavg_is_apply_sum() -> None:
    model = model_of()
    manifest = Manifest.of_model(model)
    base, total = manifest.flatten(model), sum_of(manifest)
    found = next_model(manifest, manifest, base, total, WEIGHT, STEP, ServerRule())
    assert np.array_equal(found, apply_sum(base, total, WEIGHT, STEP))


def test_yogis_second_moment_never_falls_below_zero() -> None:
    model = {"b": np.zeros(1, np.float32)} | {n: np.zeros(1, np.float32) for n in moment_names("b")}
    manifest = Manifest.of_model(model)
    total = np.zeros(3, np.int64)
    total[0] = 5 * WEIGHT
    base = manifest.flatten(model)
    for _ in range(5):
        base = next_model(manifest, manifest, base, total, WEIGHT, STEP, ServerRule(name=FEDYOGI))
        assert manifest.unflatten(base)[moment_names("b")[1]][0] >= 0


@pytest.mark.parametrize(
    "said",
    [
        {"name": "fedsgd"},
        {"name": FEDADAM, "rate": 0.0},
        {"name": FEDADAM, "rate": float("nan")},
        {"name": FEDADAM, "beta1": 1.0},
        {"name": FEDADAM, "tau": "small"},
        {"name": FEDADAM, "tau": True},
    ],
)
def test_odd_rules_are_refused(said: dict[str, object]) -> None:
    whole = {**ServerRule().to_config(), **said}
    with pytest.raises(ConfigError):
        ServerRule.of_config({"server": whole})
    with pytest.raises(ConfigError):
        ServerRule.of_config({"server": said | {"more": 1}})


def test_a_rule_needs_moments_and_finite_values() -> None:
    bare = {"b": np.zeros(2, np.float32)}
    manifest = Manifest.of_model(bare)
    rule = ServerRule(name=FEDADAM)
    with pytest.raises(ConfigError, match="moments"):
        next_model(manifest, manifest, np.zeros(2, np.float32), np.zeros(2, np.int64), 1, 0, rule)
    model = model_of()
    manifest = Manifest.of_model(model)
    model["b"][0] = np.float32(np.inf)
    with pytest.raises(NonFiniteUpdate):
        next_model(
            manifest, manifest, manifest.flatten(model), sum_of(manifest), WEIGHT, STEP, rule
        )


def test_a_rule_survives_json() -> None:
    rule = ServerRule(name=FEDYOGI, rate=0.1, beta1=0.0, beta2=0.5, tau=1e-2)
    config = parse_json(canonical_json({"server": rule.to_config()}), 1 << 12)
    assert isinstance(config, dict)
    assert ServerRule.of_config(config) == rule
    assert ServerRule.of_config({}) == ServerRule()


# Whole rounds


def adaptive(name: str) -> Setting:
    setting = Setting()
    return replace(setting, plan=replace(setting.plan, server=ServerRule(name=name)))


@pytest.mark.parametrize("name", [FEDADAM, FEDYOGI])
def test_every_hospital_and_the_auditor_recompute_the_model(tmp_path: Path, name: str) -> None:
    world = World(tmp_path, adaptive(name))
    before = world.model
    for _ in range(2):
        assert world.play().outcome is Outcome.SUM_VERIFIED
    after = decode_model(world.store.models.get(world.ledger.model()), world.manifest)
    first, second = moment_names("head.bias")
    assert before[first].max() == 0 < np.abs(after[first]).min()
    assert (after[second] > 0).all()
    facts: Facts = facts_of(world)
    report = audit(facts)
    assert report.clean, report.failures
    assert report.passed["models"]["model arithmetic"] == 2


@pytest.mark.parametrize("other", ["plain", "moments"])
def test_a_coordinator_with_another_rule_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """It proposes the plain mean, or the right weights with moments left as they were."""
    world = World(tmp_path, adaptive(FEDADAM))

    def lie(
        manifest: Manifest,
        update: Manifest,
        base: NDArray[np.float32],
        total: NDArray[np.int64],
        weight: int,
        step: int,
        rule: ServerRule,
    ) -> NDArray[np.float32]:
        if other == "plain":
            return next_model(manifest, update, base, total, weight, step, ServerRule())
        honest = next_model(manifest, update, base, total, weight, step, rule)
        mixed = {**manifest.unflatten(honest)}
        kept = manifest.unflatten(base)
        mixed |= {name: kept[name] for name in kept if name.startswith("server_")}
        return manifest.flatten(mixed)

    monkeypatch.setattr(draft, "next_model", lie)
    world.submit(world.train(world.coordinator.open_round()))
    world.coordinator.close()
    world.coordinator.propose()
    replies = world.attest(world.coordinator.serve())
    assert len(replies) == 3
    assert not any(reply.attested for reply in replies.values())
    assert {reply.code for reply in replies.values()} == {ModelDigestMismatch.code}
    assert encode_model(world.model)  # the base stands
