"""Panels of ``thoracle evaluate``: which films, what stands beside them, and the picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.data.nih import load_nih
from client.data.records import FINDINGS
from client.learners.operating import UNDECIDED, decide
from client.learners.platt import LEAST
from ledger.errors import ConfigError, OutputError
from server.evaluate import TestSet
from simulation.evaluate_command import evaluate
from simulation.panels import DPI, Bar, Panel, bars_of, choose_films, draw, write_panels
from simulation.pictures import new_picture
from tests.simulation.asking import ask

NAMES = ("often", "rare", "unknown")


def scored(count: int = 120) -> tuple[TestSet, np.ndarray]:
    """Return a set whose first finding can be told, its second is rare, its third half unknown."""
    chance = np.random.default_rng(0)
    labels = np.zeros((count, 3), np.int8)
    labels[:, 0] = chance.random(count) < 0.4
    labels[: LEAST - 2, 1] = 1
    labels[:, 2] = chance.choice([-1, 0, 1], count, p=[0.5, 0.2, 0.3])
    test = TestSet(
        pixels=chance.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8),
        labels=labels,
        findings=NAMES,
        patients=tuple(str(n // 2) for n in range(count)),
        views=(None,) * count,
    )
    scores = chance.normal(0, 1, (count, 3)) + 1.5 * (labels == 1) - 1
    return test, scores.astype(np.float32)


def keys(test: TestSet) -> list[bytes]:
    return [film.tobytes() for film in test.pixels]


# Which films


def test_films_show_what_occurs_in_turns() -> None:
    labels = np.zeros((40, 4), np.int8)
    labels[:30, 0] = 1  # nearly everyone
    labels[30, 1] = 1  # a single film
    labels[31:33, 2] = 1
    labels[0, 3] = -1  # unknown shows nothing
    patients = [str(n) for n in range(40)]
    names = [f"film {n}".encode() for n in range(40)]
    chosen = choose_films(labels, patients, names, 4)
    assert (labels[list(chosen), :3] == 1).any(axis=0).all()
    assert [bool((labels[film] == 1).any()) for film in chosen] == [True, True, True, False]
    more = choose_films(labels, patients, names, 9)
    assert more[:4] == chosen
    assert len(set(more)) == 9
    assert {31, 32} <= set(more)  # a second turn of each
    assert set(choose_films(labels, patients, names, 99)) == set(range(40))


def test_a_film_that_shows_two_findings_speaks_for_both() -> None:
    labels = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], np.int8)
    for first in range(40):
        names = [f"{first} {n}".encode() for n in range(4)]
        chosen = choose_films(labels, ["a", "b", "c", "d"], names, 2)
        # Whoever comes first: with the film of both findings, the next is one of neither.
        assert chosen in {(0, 3), (1, 0), (1, 2)}


def test_the_order_is_the_digests_and_other_patients_come_first() -> None:
    labels = np.ones((6, 1), np.int8)
    patients = ["a", "a", "a", "a", "b", "c"]
    names = [f"{n}.png".encode() for n in range(6)]
    chosen = choose_films(labels, patients, names, 3)
    assert {patients[film] for film in chosen} == {"a", "b", "c"}
    turned = choose_films(labels, patients[::-1], names[::-1], 3)
    assert [names[::-1][film] for film in turned] == [names[film] for film in chosen]


# What stands beside them


def test_decisions_are_those_of_the_weighted_f1() -> None:
    test, scores = scored()
    decided, _ = decide(1 / (1 + np.exp(-scores)), test.labels, test.patients)
    bars = bars_of(test, scores, range(len(scores)))
    compared = 0
    for film, row in enumerate(bars):
        assert tuple(bar.finding for bar in row) == NAMES
        for column, bar in enumerate(row):
            label, said = test.labels[film, column], decided[film, column]
            assert bar.actual == (None if label < 0 else bool(label))
            if said != UNDECIDED:
                assert bar.above == bool(said)
                compared += 1
    assert compared > 250
    by = list(zip(*bars, strict=True))
    assert all(bar.calibrated for bar in by[0])
    assert not any(bar.calibrated for bar in by[1])
    assert by[1][0].probability == pytest.approx(1 / (1 + np.exp(-scores[0, 1])))
    # Calibrated: on the whole as often present as said.
    mean = np.mean([bar.probability for bar in by[0]])
    assert mean == pytest.approx(test.labels[:, 0].mean(), abs=0.03)


def test_a_patient_does_not_set_its_own_threshold() -> None:
    test, scores = scored()
    before = bars_of(test, scores, [0])[0]
    changed = scores.copy()
    changed[:2] += 20  # all films of the first patient
    after = bars_of(test, changed, [0])[0]
    assert [bar.threshold for bar in after] == [bar.threshold for bar in before]
    alone = TestSet(
        pixels=test.pixels[:2],
        labels=test.labels[:2],
        findings=NAMES,
        patients=test.patients[:2],
        views=(None, None),
    )
    for bar in bars_of(alone, scores[:2], [1])[0]:  # nobody else: nothing to decide by
        assert (bar.threshold, bar.above, bar.calibrated) == (None, None, False)


# The picture


def panel(actual: bool | None = True, threshold: float | None = 0.25) -> Panel:
    bar = Bar(
        finding="Pleural_Thickening",
        probability=0.3,
        calibrated=False,
        threshold=threshold,
        actual=actual,
    )
    return Panel(film=np.zeros((4, 6), np.uint8), bars=(bar,))


def test_bars_signs_and_threshold_are_drawn() -> None:
    figure = draw([panel(), panel(actual=None, threshold=None), panel(actual=False)])
    charts = figure.axes[1::2]
    told = [[text.get_text() for text in chart.texts] for chart in charts]
    assert told == [
        ["+", "+", "label", "model"],
        ["?", "?", "label", "model"],
        ["–", "+", "label", "model"],
    ]
    for chart, lines in zip(charts, (1, 0, 1), strict=True):
        assert [text.get_text() for text in chart.get_yticklabels()] == ["Pleural Thickening*"]
        assert [bar.get_width() for bar in chart.patches] == [0.3]  # type: ignore[attr-defined]
        assert chart.get_xlim() == (0, 0.4)
        assert [line.get_xdata()[0] for line in chart.lines] == [0.25] * lines  # type: ignore[index]
    assert len({chart.patches[0].get_facecolor() for chart in charts}) == 3
    assert charts[1].patches[0].get_hatch() is not None


def test_a_png_of_the_figures_size(tmp_path: Path) -> None:
    sizes = []
    for count in (1, 4):
        path = tmp_path / f"{count}.png"
        write_panels(path, [panel()] * count)
        expected = draw([panel()] * count).get_size_inches() * DPI
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert picture.size == pytest.approx(expected, abs=1)
            sizes.append(picture.size)
    assert sizes[0] < sizes[1]
    assert sizes[0][1] < sizes[1][1]
    first = path.read_bytes()
    write_panels(path, [panel()] * count)
    assert path.read_bytes() == first
    assert sorted(item.name for item in tmp_path.iterdir()) == ["1.png", "4.png"]


def test_a_bad_path_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "old.png").write_text("kept")
    new_picture(tmp_path / "new" / "deep" / "x.PNG", "--panels")
    with pytest.raises(ConfigError, match="--panels"):
        new_picture(tmp_path / "x.svg", "--panels")
    with pytest.raises(OutputError, match="another --out"):
        new_picture(tmp_path / "old.png", "--out")
    with pytest.raises(OutputError, match="not a folder"):
        new_picture(tmp_path / "file" / "x.png", "--panels")
    with pytest.raises(OutputError):
        write_panels(tmp_path / "file" / "x.png", [panel()])


# The command (the run and the data are of ``conftest``)


def test_evaluate_draws_the_runs_own_and_named_films(run: Path, data: Path, tmp_path: Path) -> None:
    told = []
    for place, more in enumerate(((), ("--data", data))):
        path = tmp_path / f"{place}.png"
        words = ("--panels", path, "--films", 2, "--resamples", 0, "--json")
        found = json.loads(ask(evaluate, run, *words, *more))["panels"]
        assert (found["file"], found["films"]) == (str(path), 2)
        told.append(found["not_shown"])
        with Image.open(path) as picture:
            assert picture.width > 2 * picture.height
            colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
        assert len(colours) > 100  # films and their charts
        assert b"tEXt" not in path.read_bytes()  # nothing is told beside the pixels
    occur = set(np.array(FINDINGS)[(load_nih(data, "test").label_matrix() == 1).any(axis=0)])
    assert all(set(missing) < occur for missing in told)
    with pytest.raises(OutputError, match="already"):
        ask(evaluate, run, "--panels", path)
