"""``thoracle generate``: a sheet of what a checked model makes, and figures against radiographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.data.nih import load_nih
from client.data.records import FINDINGS
from client.learners import get_learner, module_to_model
from client.learners.ssganvit.quality import SPACE, TILE
from ledger.canonical import canonical_json
from ledger.errors import ConfigError, DataError, EvidenceMismatch, OutputError
from ledger.files import ObjectStore
from ledger.manifest import Manifest, encode_model
from simulation.chosen import choose
from simulation.generate_command import generate
from tests.simulation.asking import ask


def written(folder: Path, name: str, **options: object) -> Path:
    """Write a run folder as far as generating needs one: two models and the record of them."""
    learner = get_learner(name, **options)
    modules = [learner.build(seed) for seed in range(2)]
    models = [module_to_model(module, learner.shared(module)) for module in modules]
    store = ObjectStore(folder / "models", ".safetensors")
    first, last = (store.put(encode_model(model)).hex() for model in models)
    record = {
        "learner": learner.describe(),
        "manifest": Manifest.of_model(models[0]).to_json(),
        "initial_model": first,
    }
    (folder / "run.json").write_bytes(canonical_json(record))
    (folder / "metrics.csv").write_text(f"round,model\n1,{last}\n")
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return written(tmp_path / "made", "ssganvit", preset="demo")


def test_a_sheet_of_the_runs_last_or_named_model(made: Path, tmp_path: Path) -> None:
    sheets = []
    for place, more in enumerate(((), ("--round", 0), ("--seed", 1), ("--finding", "infiltrate"))):
        path = tmp_path / f"{place}.png"
        told = json.loads(ask(generate, made, "--out", path, "--count", 5, "--json", *more))
        assert (told["images"], told["side"], told["quality"]) == (5, 16, None)
        assert told["sheet"] == str(path)
        with Image.open(path) as picture:
            width, height = picture.size
            sheets.append(np.asarray(picture).tobytes())
        assert TILE <= height < TILE + 20
        assert width == 5 * height
    assert told["finding"] == "Infiltration"
    assert told["model"] == choose(made).path.stem
    assert len(set(sheets)) == 4  # another model, seed or finding is another sheet
    again = tmp_path / "again.png"
    text = ask(generate, choose(made).path, "--out", again, "--count", 5)
    assert "5 images of 16 x 16 px" in text
    with Image.open(again) as picture:
        assert np.asarray(picture).tobytes() == sheets[0]


def test_figures_against_a_list_of_radiographs(made: Path, data: Path, tmp_path: Path) -> None:
    cohort = load_nih(data, "test")
    words = ("--out", tmp_path / "a.png", "--count", 1, "--data", data)
    found = json.loads(ask(generate, made, *words, "--json"))["quality"]
    assert (found["images"], found["space"], found["subset"]) == (len(cohort), SPACE, "test")
    assert found["fid"] > 0
    assert found["kid_error"] > 0
    present = (load_nih(data, None).label_matrix() == 1).sum(axis=0)
    most = int(present.argmax())
    words = ("--out", tmp_path / "b.png", "--count", 1, "--data", data)
    text = ask(generate, made, *words, "--subset", "all", "--finding", FINDINGS[most])
    assert f"against {present[most]} radiographs in the feature space {SPACE}" in text
    rare = FINDINGS[int(present.argmin())]
    assert present.min() < 10
    with pytest.raises(DataError):
        ask(generate, made, "--out", tmp_path / "c.png", "--data", data, "--finding", rare)
    assert not (tmp_path / "c.png").exists()


def test_one_sentence_for_what_cannot_be_made(made: Path, data: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "x.png")
    other = written(tmp_path / "other", "cnn", width=8, input_size=32)
    with pytest.raises(ConfigError, match="cnn makes no images"):
        ask(generate, other, *out)
    with pytest.raises(ConfigError, match="Fracture"):
        ask(generate, made, *out, "--finding", "Fracture")
    with pytest.raises(ConfigError, match="--subset"):
        ask(generate, made, *out, "--subset", "dev")
    with pytest.raises(ConfigError, match="png"):
        ask(generate, made, "--out", tmp_path / "x.svg")
    with pytest.raises(OutputError, match="folder"):
        ask(generate, made, "--out", made / "run.json" / "x.png")
    with pytest.raises(DataError, match="round 7"):
        ask(generate, made, *out, "--round", 7)
    with pytest.raises(DataError):
        ask(generate, data, *out)
    path = choose(made).path
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(EvidenceMismatch):
        ask(generate, made, *out)
    assert not (tmp_path / "x.png").exists()
    (tmp_path / "x.png").write_text("kept")
    with pytest.raises(OutputError, match="already"):
        ask(generate, made, *out)
    assert (tmp_path / "x.png").read_text() == "kept"
