"""``thoracle explain``: only what the ledger names; sheets beside films, and the pointing game."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from client.data.boxes import BOXES
from client.data.nih import load_nih
from client.learners.target import Target
from ledger.errors import ConfigError, DataError, ModelNotFinal, OutputError
from ledger.files import ObjectStore
from simulation.chosen import choose
from simulation.explain import sheet_names, without_rollout
from simulation.explain_command import explain
from simulation.predict_command import predict
from tests.simulation.asking import ask


def test_a_folder_gets_a_sheet_a_film(run: Path, data: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "films", tmp_path / "out"
    folder.mkdir()
    source = load_nih(data, "test").records[0].image
    shutil.copy(source, folder / "a.png")
    (folder / "b.png").write_bytes(source.read_bytes()[:200])  # damaged
    said = json.loads(ask(explain, run, folder, "--out", out, "--json"))
    first, second = said["films"]
    assert "error" in second
    sheet = Path(first["sheet"])
    assert [sheet] == list(out.iterdir())
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
        assert picture.width > 3 * picture.height  # the film and three findings in a row
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 100
    told = json.loads(ask(predict, run, folder / "a.png", "--json"))["films"][0]["findings"]
    best = sorted(told, key=lambda entry: -entry["probability"])[:3]
    assert [entry["finding"] for entry in first["findings"]] == [e["finding"] for e in best]
    for mine, theirs in zip(first["findings"], best, strict=True):
        assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-6)
        assert mine["grid"] == [4, 4]
        assert mine["peak"] is None or all(0 < share < 1 for share in mine["peak"])
    assert first["rollout"] is None  # a network without attention
    with pytest.raises(OutputError, match="already"):
        ask(explain, run, folder, "--out", out)


def test_named_findings_of_one_film(run: Path, data: Path, tmp_path: Path) -> None:
    film = load_nih(data, "test").records[1].image
    text = ask(
        explain,
        run,
        film,
        "--finding",
        "hernia",
        "--finding",
        "Infiltrate",
        "--out",
        tmp_path / "o",
    )
    assert "Hernia" in text
    assert "Infiltration" in text
    assert "Effusion" not in text
    assert "not a medical device" in text
    assert "No attention rollout: this network has no attention." in " ".join(text.split())
    with pytest.raises(ConfigError, match="Fracture"):
        ask(explain, run, film, "--finding", "Fracture", "--out", tmp_path / "p")
    with pytest.raises(DataError):
        ask(explain, run, tmp_path / "absent.png")


def test_a_model_that_no_ledger_names_explains_nothing(run: Path, data: Path) -> None:
    digest = ObjectStore(run / "models", ".safetensors").put(b"another")
    with pytest.raises(ModelNotFinal):
        ask(explain, run / "models" / f"{digest.hex()}.safetensors", data)


def test_pointing_counts_the_films_of_the_list(run: Path, data: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(data, tmp_path / "nih"))
    with pytest.raises(DataError, match=BOXES):
        ask(explain, run, root, "--pointing")
    test, train = (load_nih(root, "test").records, load_nih(root, "train").records)
    head = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    whole, corner = "0,0,1024,1024", "0,0,1,1"
    drawn = ((test[0], "Mass", whole), (test[1], "Mass", corner),
             (test[0], "Infiltrate", whole), (train[0], "Mass", whole))  # fmt: skip
    rows = [f"{record.image_id},{name},{box}" for record, name, box in drawn]
    (root / BOXES).write_text(head + "\n".join(rows) + "\n")
    told = json.loads(ask(explain, run, root, "--pointing", "--json"))
    found = told["pointing"]
    by = {entry["finding"]: entry for entry in found["findings"]}
    assert (by["Mass"]["films"], by["Infiltration"]["films"]) == (2, 1)
    assert by["Mass"]["centre_rate"] == 0.5
    assert by["Mass"]["hits"] <= 1  # no cell's middle is near the corner
    assert found["outside"] == 1
    assert found["all"]["films"] == 3
    assert 0.5 < found["all"]["random_rate"] < 1
    assert told["model"] == choose(run).path.stem
    assert "left out" in ask(explain, run, root, "--pointing")
    with pytest.raises(ConfigError):
        ask(explain, run, root, "--pointing", "--finding", "Mass")


def test_why_there_is_no_rollout_is_one_sentence() -> None:
    layer = nn.Identity()
    assert not without_rollout(Target(layer=layer, grid=(4, 4), attention=(layer,)))
    assert "has no attention" in without_rollout(Target(layer=layer, grid=(4, 4)))
    assert "no grid" in without_rollout(Target(layer=layer, attention=(layer,)))


def test_sheets_of_films_called_alike_are_told_apart() -> None:
    assert sheet_names(["a.png"]) == ["a.explained.png"]
    assert sheet_names(["a.png", "a.jpg", "d/b.png"]) == [
        "a.png.explained.png", "a.jpg.explained.png", "d_b.explained.png"
    ]  # fmt: skip
    with pytest.raises(DataError):
        sheet_names(["d/b.png", "d_b.png", "d/b.jpg", "d_b.jpg"])
