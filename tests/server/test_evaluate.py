"""Central scoring: verified model files in, figures out."""

import json
from pathlib import Path

import numpy as np
import pytest

from client.learners import get_learner, load_model, module_to_model
from client.learners.inference import predict
from ledger.errors import CodecError, DataError, EvidenceMismatch, EvidenceMissing, SpecMismatch
from ledger.manifest import Manifest, Model, encode_model, model_digest
from server.evaluate import TestSet, evaluate_model, read_model

LEARNER = get_learner("cnn", width=8, input_size=32, labels=2)


def model_of(seed: int) -> Model:
    module = LEARNER.build(seed)
    return module_to_model(module, LEARNER.shared(module))


def stored(folder: Path, model: Model) -> Path:
    data = encode_model(model)
    path = folder / f"{model_digest(data).hex()}.safetensors"
    path.write_bytes(data)
    return path


def samples(count: int = 60) -> TestSet:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, (count, 2)).astype(np.int8)
    pixels = generator.integers(0, 80, (count, 1, 32, 32), dtype=np.uint8)
    pixels[labels[:, 0] == 1, :, :16] += 100
    return TestSet(
        pixels=pixels,
        labels=labels,
        findings=("upper", "noise"),
        patients=tuple(str(n // 2) for n in range(count)),
        views=tuple(("PA", "AP", None)[n % 3] for n in range(count)),
    )


def test_figures_come_from_the_models_own_predictions() -> None:
    model, test = model_of(1), samples()
    module = LEARNER.build(0)
    load_model(module, model, LEARNER.shared(module))
    found = evaluate_model(model, LEARNER, test, resamples=100)
    scores = predict(module, LEARNER, test.pixels)[:, 0]
    present = test.labels[:, 0] == 1
    pairs = scores[present][:, None] - scores[~present][None]
    by_hand = (pairs > 0).mean() + 0.5 * (pairs == 0).mean()
    assert found.overall.labels[0].auc == pytest.approx(by_hand)
    assert found.overall.labels[0].positives == present.sum()
    assert set(found.within) == {"AP", "PA"}
    assert (found.patients, found.overall.images, found.within["PA"].images) == (30, 60, 20)
    assert found.interval is not None
    assert found.interval.patients == 30


def test_the_record_is_json_without_nan() -> None:
    found = evaluate_model(model_of(1), LEARNER, samples(), resamples=50)
    assert json.loads(json.dumps(found.to_record(), allow_nan=False))["overall"]["images"] == 60
    single = samples(1)
    nothing = evaluate_model(model_of(1), LEARNER, single).to_record()
    assert json.loads(json.dumps(nothing, allow_nan=False))["macro_auc_interval"] is None
    assert nothing["overall"]["macro_auc"] is None  # type: ignore[index]


def test_equal_arguments_give_equal_figures() -> None:
    first, again, other = (
        evaluate_model(model_of(1), LEARNER, samples(), resamples=50, seed=seed).to_record()
        for seed in (3, 3, 4)
    )
    assert first == again
    assert first["overall"] == other["overall"]
    assert first["macro_auc_interval"] != other["macro_auc_interval"]


def test_a_model_file_is_read_back_whole(tmp_path: Path) -> None:
    model = model_of(2)
    found = read_model(stored(tmp_path, model), Manifest.of_model(model))
    assert encode_model(found) == encode_model(model)


def test_one_changed_byte_is_refused_before_use(tmp_path: Path) -> None:
    model = model_of(2)
    path = stored(tmp_path, model)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(EvidenceMismatch):
        read_model(path, Manifest.of_model(model))


def test_a_file_not_named_by_a_digest_is_refused(tmp_path: Path) -> None:
    model = model_of(2)
    path = stored(tmp_path, model).rename(tmp_path / "final.safetensors")
    with pytest.raises(EvidenceMismatch):
        read_model(path, Manifest.of_model(model))
    with pytest.raises(EvidenceMissing):
        read_model(tmp_path / f"{'0' * 64}.safetensors", Manifest.of_model(model))


def test_another_learners_model_is_refused(tmp_path: Path) -> None:
    other = get_learner("cnn", width=16, input_size=32, labels=2)
    module = other.build(0)
    foreign = module_to_model(module, other.shared(module))
    with pytest.raises(CodecError):
        read_model(stored(tmp_path, foreign), Manifest.of_model(model_of(0)))
    with pytest.raises(SpecMismatch):
        evaluate_model(foreign, LEARNER, samples())


def test_test_data_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError):
        evaluate_model(model_of(0), get_learner("cnn", width=8, labels=2), samples())
    good = samples()
    for wrong in (
        {"pixels": good.pixels[:0]},
        {"patients": good.patients[:-1]},
        {"findings": ("upper",)},
    ):
        fields = {
            "pixels": good.pixels, "labels": good.labels, "findings": good.findings,
            "patients": good.patients, "views": good.views, **wrong,
        }  # fmt: skip
        with pytest.raises(DataError):
            TestSet(**fields)  # type: ignore[arg-type]
