"""Predicting and exporting: only what the ledger names, calibrated on patients who trained nothing.

The run (``conftest``) is a real one on the in-process chain.
"""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.data.nih import load_nih
from client.data.preprocess import load_pixels
from client.data.records import FINDINGS
from client.learners import module_to_model
from client.learners.calibration import calibration
from client.learners.platt import LEAST, Line, apply_lines, cross_fitted, fit_lines
from ledger.canonical import canonical_json, parse_json
from ledger.errors import (
    BundleInvalid,
    ConfigError,
    DataError,
    EvidenceMismatch,
    ModelNotFinal,
    OutputError,
)
from ledger.files import ObjectStore
from ledger.manifest import encode_model
from simulation.chosen import choose
from simulation.evaluate_command import evaluate
from simulation.explain_command import explain
from simulation.export import export_onnx
from simulation.export_command import export
from simulation.phantoms import write_phantoms
from simulation.predict import Calibrated, Decision, films
from simulation.predict_command import predict
from simulation.provenance import provenance
from tests.simulation.asking import ask
from tests.simulation.conftest import Tiny

# The ledger


def test_the_ledger_names_round_and_first_model(run: Path, data: Path) -> None:
    last = provenance(run, bytes.fromhex(choose(run).path.stem))
    assert (last.round, last.latest, last.anchored) == (1, True, False)
    first = provenance(run, bytes.fromhex(choose(run, 0).path.stem))
    assert (first.round, first.latest) == (0, False)
    target = load_nih(data, "test").records[0].image
    assert "later model" in ask(predict, choose(run, 0).path, target)


def test_a_model_that_no_ledger_names_is_not_used(run: Path, data: Path) -> None:
    learner = Tiny()
    module = learner.build(9)
    model = module_to_model(module, learner.shared(module))
    digest = ObjectStore(run / "models", ".safetensors").put(encode_model(model))
    with pytest.raises(ModelNotFinal):
        ask(predict, run / "models" / f"{digest.hex()}.safetensors", data)
    (run / "metrics.csv").write_text(f"round,model\n1,{digest.hex()}\n")  # nor by a false table
    for command, more in ((predict, (data,)), (export, ("--onnx", run / "x.onnx"))):
        with pytest.raises(ModelNotFinal):
            ask(command, run, *more)


def test_an_edited_record_or_model_is_refused(run: Path, data: Path) -> None:
    path = choose(run).path
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(EvidenceMismatch):
        ask(predict, run, data)
    bundle = run / "chain" / "bundle.json"
    bundle.write_bytes(bundle.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises((BundleInvalid, EvidenceMismatch)):
        provenance(run, bytes.fromhex(path.stem))
    bundle.unlink()
    with pytest.raises(BundleInvalid, match="not exported"):
        provenance(run, bytes.fromhex(path.stem))


# What is told


def test_a_folder_of_films_as_json_csv_and_text(run: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    (folder / "deep").mkdir(parents=True)
    sources = [record.image for record in load_nih(data, "test").records[:2]]
    shutil.copy(sources[0], folder / "a.png")
    shutil.copy(sources[1], folder / "deep" / "b.png")
    (folder / "notes.txt").write_text("no film")
    (folder / "c.png").write_bytes(sources[0].read_bytes()[:200])  # damaged
    found = json.loads(ask(predict, run, folder, "--json"))
    assert [film["film"] for film in found["films"]] == ["a.png", "c.png", "deep/b.png"]
    assert "error" in found["films"][1]
    assert (found["model"], found["round"]) == (choose(run).path.stem, 1)
    first = found["films"][0]["findings"]
    assert [entry["finding"] for entry in first] == list(FINDINGS)
    for entry in first:
        assert 0 <= entry["probability"] <= 1
        if entry["threshold"] is not None:
            assert entry["above"] == (entry["probability"] >= entry["threshold"])
    rows = list(csv.DictReader(io.StringIO(ask(predict, run, folder, "--csv"))))
    assert len(rows) == 2 * len(FINDINGS) + 1
    assert float(rows[0]["probability"]) == first[0]["probability"]
    text = ask(predict, run, folder / "a.png")
    assert "not a medical device" in text
    assert "Hernia" in text
    alone = json.loads(ask(predict, run, folder / "a.png", "--json"))["films"][0]["findings"]
    assert [entry["probability"] for entry in alone] == pytest.approx(
        [entry["probability"] for entry in first], abs=1e-6
    )  # a batch of another size adds up in another order


def test_dicom_films_are_told_of_as_well(run: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "dicom", 2, 0, size=32, layout="dicom", test_share=0.0)
    found = json.loads(ask(predict, run, tmp_path / "dicom", "--json"))
    assert found["films"]
    assert all(len(film["findings"]) == len(FINDINGS) for film in found["films"])
    one = next(path for path in films(tmp_path / "dicom"))
    assert len(json.loads(ask(predict, run, one, "--json"))["films"]) == 1


def test_the_calibration_is_kept_and_belongs_to_its_model(run: Path, data: Path) -> None:
    target = load_nih(data, "test").records[0].image
    first = json.loads(ask(predict, run, target, "--json"))
    kept = run / "calibration" / f"{choose(run).path.stem}.json"
    again = json.loads(ask(predict, run, target, "--json"))
    assert first == again
    assert first["calibration"]["patients"] == len(load_nih(data, "test").patients())
    calibrated = Calibrated.decode(kept.read_bytes())
    assert calibrated.encode() == kept.read_bytes()
    other = kept.with_name(f"{choose(run, 0).path.stem}.json")
    kept.rename(other)
    with pytest.raises(EvidenceMismatch, match="something else"):
        ask(predict, choose(run, 0).path, target)
    other.write_text("{}")
    with pytest.raises(EvidenceMismatch):
        ask(predict, choose(run, 0).path, target)
    other.unlink()
    (run / "test.npz").unlink()
    bare = json.loads(ask(predict, run, target, "--json"))
    assert bare["calibration"] is None
    assert not bare["films"][0]["findings"][0]["calibrated"]


def test_a_run_that_cannot_be_written_is_used_all_the_same(run: Path, data: Path) -> None:
    target = load_nih(data, "test").records[0].image
    (run / "calibration").write_text("no folder can be made here")
    found = json.loads(ask(predict, run, target, "--json"))
    assert found["calibration"]["patients"] == len(load_nih(data, "test").patients())


def test_a_calibration_of_other_types_is_refused() -> None:
    point = Decision(threshold=0.5, sensitivity=None, specificity=0.5, f1=None, positives=3)
    kept = Calibrated(
        model="00", data="11", images=9, patients=4, findings=("Mass",), lines=(Line(),),
        points=(point,), brier=(0.1, None), ece=(None, None),
    )  # fmt: skip
    assert Calibrated.decode(kept.encode()) == kept
    for there, odd in (
        (b'"slope":1', b'"slope":"1"'),
        (b'"threshold":0.5', b'"threshold":[]'),
        (b'"images":9', b'"images":null'),
        (b'"offset":0', b'"offset":true'),
        (b'["Mass"]', b'["Mass","Nodule"]'),
        (b'"positives":3', b'"negatives":3'),
    ):
        damaged = kept.encode().replace(there, odd)
        assert damaged != kept.encode()
        with pytest.raises(EvidenceMismatch):
            Calibrated.decode(damaged)


def test_nothing_to_predict_is_one_sentence(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no film")
    for target in (tmp_path / "empty", tmp_path / "absent", tmp_path / "text.png"):
        with pytest.raises(DataError):
            ask(predict, run, target)
    with pytest.raises(ConfigError):
        ask(predict, run, tmp_path, "--csv", "--json")
    Image.new("L", (16, 16)).save(tmp_path / "empty" / "x.jpg")
    assert films(tmp_path / "empty") == (tmp_path / "empty" / "x.jpg",)


def test_what_stays_at_hospitals_cannot_be_used_here(run: Path, data: Path) -> None:
    record = parse_json((run / "run.json").read_bytes(), 1 << 20)
    assert isinstance(record, dict)
    record["learner"]["local"] = "head"
    (run / "run.json").write_bytes(canonical_json(record))
    for command, more in ((predict, (data,)), (explain, (data,)), (evaluate, ())):
        with pytest.raises(ConfigError, match="hospital"):
            ask(command, run, *more)


def test_a_record_of_unknown_preprocessing_is_one_sentence(run: Path, data: Path) -> None:
    record = parse_json((run / "run.json").read_bytes(), 1 << 20)
    assert isinstance(record, dict)
    record["config"] = {**record.get("config", {}), "preprocess_options": {"sharpen": 1}}
    (run / "run.json").write_bytes(canonical_json(record))
    with pytest.raises(EvidenceMismatch, match="preprocessing"):
        ask(predict, run, data)


# Calibration


def test_lines_mend_what_is_off() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(-1, 1.5, 3000)
    labels = (generator.random(3000) < 1 / (1 + np.exp(-truth))).astype(np.int8)[:, None]
    scores = (3 * truth + 2)[:, None]  # far too sure, and shifted
    patients = [str(n // 2) for n in range(3000)]
    lines = fit_lines(scores, labels)
    assert lines[0].slope == pytest.approx(1 / 3, rel=0.1)
    assert lines[0].offset == pytest.approx(-2 / 3, abs=0.15)
    before = calibration(apply_lines(scores, [Line()]), labels, ["a"])
    after = calibration(cross_fitted(scores, labels, patients), labels, ["a"])
    assert before.ece is not None
    assert after.ece is not None
    assert after.ece < 0.25 * before.ece
    assert np.array_equal(np.argsort(apply_lines(scores, lines)[:, 0]), np.argsort(scores[:, 0]))


def test_too_few_positives_are_left_alone_and_wrong_ranking_is_flattened() -> None:
    scores = np.linspace(-2, 2, 60)[:, None]
    few = np.zeros((60, 1), np.int8)
    few[: LEAST - 1] = 1
    assert fit_lines(scores, few) == (Line(),)
    wrong = (scores < 0).astype(np.int8)
    line = fit_lines(scores, wrong)[0]
    assert line.slope > 0
    assert apply_lines(scores, [line])[:, 0] == pytest.approx(np.full(60, 0.5), abs=1e-3)
    with pytest.raises(DataError):
        fit_lines(scores, few[1:])


# Export


def test_the_exported_model_is_the_predicted_one(run: Path, data: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    target = load_nih(data, "test").records[0].image
    path = tmp_path / "tiny.onnx"
    about = json.loads(ask(export, run, "--onnx", path, "--json"))
    assert about["largest_difference"] < 1e-4
    film = load_pixels(load_nih(data, "test").select([0]), 8).astype(np.float32)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(["probabilities"], {"films": film})[0][0]
    told = json.loads(ask(predict, run, target, "--json"))["films"][0]["findings"]
    assert found.tolist() == pytest.approx([entry["probability"] for entry in told], abs=1e-4)
    meta = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert json.loads(meta["thoracle"])["model"] == choose(run).path.stem
    with pytest.raises(OutputError, match="already"):
        ask(export, run, "--onnx", path)
    with pytest.raises(ConfigError, match="--onnx"):
        ask(export, run)


def test_an_export_that_differs_from_torch_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    import simulation.export as exporting

    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)  # no two are as near as that
    learner = Tiny(labels=2)
    module = learner.build(0)
    with pytest.raises(OutputError, match="differs"):
        export_onnx(learner, module.eval(), (Line(), Line()), tmp_path / "x.onnx", {})
    assert not (tmp_path / "x.onnx").exists()
