"""The mean of a run's last models: computed from what the ledger names, and again by its users."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from client.data.nih import load_nih
from ledger.canonical import canonical_json
from ledger.errors import (
    CodecError,
    DataError,
    EvidenceMismatch,
    EvidenceMissing,
    ModelNotFinal,
)
from ledger.files import ObjectStore
from ledger.manifest import encode_model
from server.evaluate import read_model
from simulation.average_command import average
from simulation.averaging import Average
from simulation.chosen import choose
from simulation.evaluate_command import evaluate
from simulation.predict_command import predict
from simulation.provenance import provenance
from tests.simulation.asking import ask
from tests.simulation.conftest import play


@pytest.fixture(scope="session")
def thrice(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    return play(tmp_path_factory.mktemp("thrice") / "run", data, rounds=3)


@pytest.fixture
def longer(thrice: Path, tmp_path: Path, installed: None) -> Path:
    return Path(shutil.copytree(thrice, tmp_path / "run"))


def averaged(run: Path, last: int = 2) -> Path:
    told = json.loads(ask(average, run, "--last", last, "--json"))
    return Path(str(told["file"]))


def test_it_is_the_mean_of_the_last_models_and_known_by_them(longer: Path, data: Path) -> None:
    path = averaged(longer)
    manifest = choose(longer).manifest
    second, third = (read_model(choose(longer, number).path, manifest) for number in (2, 3))
    for name, tensor in read_model(path, manifest).items():
        exact = (second[name].astype(np.float64) + third[name]) / 2
        assert np.array_equal(tensor, exact.astype(np.float32)), name
    known = provenance(longer, bytes.fromhex(path.stem))
    assert (known.averaged, known.round, known.latest) == ((2, 3), 3, True)
    assert averaged(longer) == path  # again: the same bytes
    film = load_nih(data, "test").records[0].image
    assert "rounds 2, 3" in ask(predict, path, film)
    told = json.loads(ask(predict, path, film, "--json"))
    assert (told["averaged"], told["model"]) == ([2, 3], path.stem)
    assert json.loads(ask(evaluate, path, "--resamples", 0, "--json"))


def test_a_mean_of_something_else_is_not_used(longer: Path) -> None:
    path = averaged(longer)
    digest = bytes.fromhex(path.stem)
    record = longer / "averages" / f"{path.stem}.json"
    names = json.loads(record.read_bytes())["of"]
    first = choose(longer, 1).path.stem
    record.write_bytes(canonical_json({"format": "thoracle/average/v1", "of": [first, names[1]]}))
    with pytest.raises(EvidenceMismatch, match="one after the other"):
        provenance(longer, digest)
    initial = choose(longer, 0).path.stem
    for others in (names[::-1], [names[0], names[0]], [first, names[1]], [initial, first]):
        record.write_bytes(canonical_json({"format": "thoracle/average/v1", "of": others}))
        with pytest.raises(EvidenceMismatch, match="one after the other"):
            provenance(longer, digest)
    record.write_bytes(canonical_json({"format": "thoracle/average/v1", "of": [first, names[0]]}))
    with pytest.raises(EvidenceMismatch, match="not the mean"):
        provenance(longer, digest)
    record.write_bytes(canonical_json({"format": "thoracle/average/v1", "of": [first]}))
    with pytest.raises(CodecError):
        provenance(longer, digest)
    record.unlink()
    with pytest.raises(ModelNotFinal):
        provenance(longer, digest)


def test_a_mean_of_what_no_ledger_names_is_not_used(longer: Path) -> None:
    chosen = choose(longer)
    model = read_model(chosen.path, chosen.manifest)
    made_up = {name: tensor + np.float32(1) for name, tensor in model.items()}
    store = ObjectStore(longer / "models", ".safetensors")
    foreign = store.put(encode_model(made_up))
    mean = {
        name: ((tensor.astype(np.float64) + made_up[name]) / 2).astype(np.float32)
        for name, tensor in model.items()
    }
    digest = store.put(encode_model(mean))
    (longer / "averages").mkdir()
    record = Average(of=(bytes.fromhex(chosen.path.stem), foreign))
    (longer / "averages" / f"{digest.hex()}.json").write_bytes(record.encode())
    with pytest.raises(ModelNotFinal):
        provenance(longer, digest)
    table = longer / "metrics.csv"  # nor by a table that was edited
    table.write_text(table.read_text().replace(chosen.path.stem, foreign.hex()))
    with pytest.raises(ModelNotFinal):
        averaged(longer)


def test_a_model_that_is_gone_cannot_be_averaged(longer: Path) -> None:
    path = averaged(longer)
    choose(longer, 2).path.unlink()
    with pytest.raises(EvidenceMissing):
        provenance(longer, bytes.fromhex(path.stem))
    path.unlink()
    with pytest.raises(EvidenceMissing):
        averaged(longer)
    assert not path.exists()


def test_only_verified_rounds_of_the_last_phase_are_averaged(longer: Path, thrice: Path) -> None:
    with pytest.raises(DataError, match="3 verified rounds"):
        averaged(longer, 4)
    table = longer / "metrics.csv"
    rows = [line.split(",") for line in table.read_text().split()[1:]]
    phases = ["early", "late", "late"]
    text = [",".join([*row, phase]) for row, phase in zip(rows, phases, strict=True)]
    table.write_text("\n".join(["round,model,outcome,phase", *text, ""]))
    assert averaged(longer)
    with pytest.raises(DataError, match="phase late"):
        averaged(longer, 3)
    table.write_text(table.read_text().replace("SUM_VERIFIED,late", "ABORTED,late", 1))
    with pytest.raises(DataError):
        averaged(longer)
    with pytest.raises(DataError, match="no run folder"):
        averaged(longer / "nowhere")
    assert averaged(choose(thrice).path)  # a model's run is meant


@pytest.mark.parametrize(
    "rows",
    [
        "x,aa",
        "1",
        f"{'9' * 5000},aa",
        "-1,aa",
        "1,",
        f"1,{'a' * 200_000}",
        "1,a\0a",
        "1,zz,SUM_VERIFIED",
    ],
)
def test_a_table_that_is_none_is_refused_in_a_sentence(longer: Path, rows: str) -> None:
    (longer / "metrics.csv").write_text(f"round,model,outcome\n{rows}\n{rows}\n")
    with pytest.raises((EvidenceMismatch, DataError, ModelNotFinal)):
        averaged(longer)


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b'{"format":"thoracle/average/v2","of":[]}',
        canonical_json({"format": "thoracle/average/v1", "of": ["00", "00"]}),
        canonical_json({"format": "thoracle/average/v1", "of": ["zz" * 32, "zz" * 32]}),
        canonical_json({"format": "thoracle/average/v1", "of": [1, 2]}),
        canonical_json({"format": "thoracle/average/v1", "of": "00" * 32}),
    ],
)
def test_a_damaged_record_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        Average.decode(data)
