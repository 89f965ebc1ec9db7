"""The mask against drawn truth: what it must find, what it must spare, and where figures go."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from client.data.masking import find_text
from client.data.nih import load_nih
from ledger.errors import ConfigError
from simulation.mask_figures import (
    BEGIN,
    END,
    LEGIBLE,
    SIZE,
    document,
    main,
    measure_phantoms,
    measure_real,
    native_side,
    plant_text,
    plant_wire,
)
from simulation.phantom_film import draw_film, render
from simulation.phantom_patients import patient_visits
from simulation.phantoms import write_phantoms


def test_the_truth_lies_where_it_is_drawn() -> None:
    visits = [pair for patient in range(1, 6) for pair in patient_visits(patient, 5)]
    for visit, rng in visits:
        film = draw_film(visit, 128, rng)
        assert 0.1 < film.lungs.mean() < 0.5
        assert 0.02 < film.heart.mean() < 0.2
        assert film.signs.any() <= bool(visit.severity)
        assert 0 < film.marks.mean() < 0.02
        assert film.pixels[film.marks].mean() > 150
    visit, rng = next(iter(patient_visits(1, 5)))
    film = draw_film(visit, 128, rng)
    visit, rng = next(iter(patient_visits(1, 5)))
    assert np.array_equal(render(visit, 128, rng), film.pixels)


def test_most_legible_text_is_found_and_anatomy_is_spared() -> None:
    table = measure_phantoms(8)
    assert np.mean(table["planted text found"]) > 0.8
    assert np.mean(table["side markers found"]) > 0.95
    assert min(table["lungs kept"]) > 0.97
    assert min(table["heart kept"]) > 0.99
    assert np.mean(table["signs kept"]) > 0.97
    assert "| 8 |" in document({"phantoms": table})


@pytest.mark.parametrize("grey", [60, 120])
def test_planted_text_is_found_on_plain_grey(grey: int) -> None:
    plain = np.full((SIZE, SIZE), grey, dtype=np.uint8)
    assert not find_text(plain).any()
    for seed in range(12):
        marked, truth = plant_text(plain, np.random.default_rng(seed))
        assert np.abs(marked.astype(int) - plain)[truth].mean() >= LEGIBLE
        assert (find_text(marked) > 0)[truth].mean() > 0.9, seed
        assert not np.array_equal(plant_wire(plain, np.random.default_rng(seed))[0], plain)


def test_boxes_are_measured_where_there_are_some(tmp_path: Path) -> None:
    root = write_phantoms(tmp_path / "p", 3, 0, size=128).root
    name = load_nih(root).records[0].image_id
    table = measure_real(root, 2)
    assert len(table["middle of the film kept"]) == 2
    assert "radiologists' boxes kept" not in table
    head = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    (root / "BBox_List_2017.csv").write_text(f"{head}{name},Mass,300,300,200,200\n")
    assert measure_real(root, 2)["radiologists' boxes kept"][0] > 0.95
    assert native_side(root / "train_val_list.txt") == 0


def test_figures_go_between_the_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    monkeypatch.setattr(sys, "argv", ["x", "--films", "1", "--write", str(page)])
    main()
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| films")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "lungs kept" in capsys.readouterr().out
    page.write_text("no markers")
    with pytest.raises(ConfigError, match="lacks the markers"):
        main()
