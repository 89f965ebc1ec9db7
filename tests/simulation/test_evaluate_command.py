"""``thoracle evaluate`` on a run folder: which model, which data, and what it prints."""

import json
from pathlib import Path

import pytest

from client.data.nih import load_nih
from client.data.preprocess import load_pixels
from client.data.records import FINDINGS
from client.learners import get_learner, module_to_model
from ledger.canonical import canonical_json
from ledger.errors import ConfigError, DataError, EvidenceMismatch
from ledger.files import ObjectStore
from ledger.manifest import Manifest, encode_model
from simulation.chosen import choose
from simulation.evaluate_command import evaluate
from simulation.testset import write_test_set
from tests.simulation.asking import ask

LEARNER = get_learner("cnn", width=8, input_size=32)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as far as scoring needs one: two rounds' models and the records of them."""
    modules = [LEARNER.build(seed) for seed in range(3)]
    models = [module_to_model(module, LEARNER.shared(module)) for module in modules]
    store = ObjectStore(tmp_path / "models", ".safetensors")
    digests = [store.put(encode_model(model)).hex() for model in models]
    record = {
        "learner": LEARNER.describe(),
        "manifest": Manifest.of_model(models[0]).to_json(),
        "initial_model": digests[0],
    }
    (tmp_path / "run.json").write_bytes(canonical_json(record))
    (tmp_path / "metrics.csv").write_text(f"round,model\n1,{digests[1]}\n2,{digests[2]}\n")
    return tmp_path


def test_a_run_is_its_last_model(run: Path) -> None:
    lines = (run / "metrics.csv").read_text().split()
    assert choose(run).path.stem == lines[2].removeprefix("2,")
    assert choose(run, 1).path.stem == lines[1].removeprefix("1,")
    assert choose(run, 0).path.stem not in (run / "metrics.csv").read_text()
    assert choose(choose(run, 1).path).path == choose(run, 1).path


def test_figures_as_json(run: Path, data: Path) -> None:
    found = json.loads(
        ask(evaluate, run, "--data", data, "--subset", "all", "--json", "--resamples", 50)
    )
    assert found["model"] == choose(run).path.stem
    assert found["overall"]["images"] == len(load_nih(data, None))
    assert len(found["overall"]["labels"]) == 14
    five = {"Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion"}
    aucs = [
        each["auc"]
        for each in found["overall"]["labels"]
        if each["label"] in five and each["auc"] is not None
    ]
    assert found["chexpert_competition"]["scored"] == len(aucs) > 0
    assert found["chexpert_competition"]["macro_auc"] == pytest.approx(sum(aucs) / len(aucs))
    assert set(found["within_view"]) <= {"PA", "AP"}


def test_the_runs_own_test_set_is_the_default(run: Path, data: Path) -> None:
    cohort = load_nih(data, "test")
    write_test_set(run / "test.npz", cohort, load_pixels(cohort, 32))
    own = json.loads(ask(evaluate, run, "--json", "--resamples", 50))
    named = json.loads(ask(evaluate, run, "--json", "--resamples", 50, "--data", data))
    assert own["overall"] == named["overall"]
    assert own["macro_auc_interval"] == named["macro_auc_interval"]


def test_the_table_names_every_finding(run: Path, data: Path) -> None:
    text = ask(evaluate, run, "--data", data, "--resamples", 0)
    for word in (*FINDINGS, "Macro over", "Positives"):
        assert word in text


def test_an_edited_model_is_refused(run: Path, data: Path) -> None:
    path = choose(run).path
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(EvidenceMismatch):
        ask(evaluate, run, "--data", data)


def test_one_sentence_for_what_is_not_there(run: Path, data: Path, tmp_path: Path) -> None:
    for target in (tmp_path / "absent", data):
        with pytest.raises(DataError):
            ask(evaluate, target, "--data", data)
    with pytest.raises(DataError, match="round 7"):
        ask(evaluate, run, "--data", data, "--round", 7)
    with pytest.raises(DataError, match="--data"):
        ask(evaluate, run)
    for odd in (("--subset", "dev"), ("--resamples", 3)):
        with pytest.raises(ConfigError):
            ask(evaluate, run, "--data", data, *odd)
    (run / "metrics.csv").write_text("nothing\n1\n")
    with pytest.raises(EvidenceMismatch):
        ask(evaluate, run, "--data", data)
