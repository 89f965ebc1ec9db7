"""Preprocessing steps: switches, sizes, and masks measured against drawn truth."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest

from client.data.images import Grey
from client.data.masking import find_abdomen, find_devices, find_text, mask_non_diagnostic
from client.data.pipeline import (
    HEAD,
    Preprocessing,
    enhance,
    prepared_as,
    process,
    resize,
)
from client.data.prepare import encode_processed
from ledger.errors import ConfigError
from simulation.phantom_film import render
from simulation.phantom_patients import Visit
from simulation.phantoms import encode_png

SIZE = 320


@cache
def film(seed: int = 0, finding: str = "") -> Grey:
    visit = Visit(
        patient=1,
        follow_up=0,
        age=50,
        sex="M",
        view="PA",
        severity={finding: 0.9} if finding else {},
    )
    return render(visit, SIZE, np.random.default_rng(seed))


def test_auto_is_off_below_256_pixels_and_on_from_there() -> None:
    plan = Preprocessing(size=64)
    large = film()
    small = resize(large, 255)
    assert np.array_equal(enhance(small, plan), small)
    assert not np.array_equal(enhance(large, plan), large)


@pytest.mark.parametrize("step", ["clahe", "blur", "mask"])
def test_each_step_is_switchable(step: str) -> None:
    large = film()
    off = Preprocessing(clahe="off", blur="off", mask="off")
    assert np.array_equal(enhance(large, off), large)
    only = Preprocessing(**{"clahe": "off", "blur": "off", "mask": "off", step: "on"})  # type: ignore[arg-type]
    assert not np.array_equal(enhance(large, only), large)
    assert only.digest() != off.digest()


def test_steps_are_opencvs_with_the_papers_sizes() -> None:
    large = film()
    clahe = enhance(large, Preprocessing(blur="off", mask="off"))
    assert np.array_equal(clahe, cv2.createCLAHE(2.0, (8, 8)).apply(large))
    blur = enhance(large, Preprocessing(clahe="off", mask="off"))
    assert np.array_equal(blur, cv2.GaussianBlur(large, (5, 5), 0))


def test_a_prepared_film_is_not_processed_twice() -> None:
    plan = Preprocessing(size=300)
    once = process(encode_png(film()), "x", plan)
    assert np.array_equal(process(encode_processed(once, plan), "x", plan), once)
    assert not np.array_equal(process(encode_png(once), "x", plan), once)


def test_other_preparation_is_told_whatever_the_size() -> None:
    plan = Preprocessing(size=300)
    made = encode_processed(process(encode_png(film()), "x", plan), plan)
    assert prepared_as(made[:HEAD], plan)
    assert prepared_as(made[:HEAD], Preprocessing(size=64))
    assert not prepared_as(made[:HEAD], Preprocessing(size=300, clahe="off"))
    assert prepared_as(encode_png(film())[:HEAD], Preprocessing(clahe="off"))
    assert prepared_as(b"", plan)
    assert not prepared_as(made[:16] + b"\xff" * 4 + made[20:HEAD], plan)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 4},
        {"clahe": "maybe"},
        {"clahe_clip": 0},
        {"clahe_grid": 0},
        {"blur_kernel": 4},
        {"blur_kernel": 99},
        {"min_native": 0},
    ],
)
def test_settings_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Preprocessing(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_burnt_in_text_is_found_and_painted_over(seed: int) -> None:
    clean = film(seed)
    marked = clean.copy()
    cv2.putText(marked, "MOREAU", (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    truth = np.abs(marked.astype(int) - clean) > 60
    found = find_text(marked) > 0
    assert found[truth].mean() > 0.9
    centre = np.s_[SIZE // 4 : -SIZE // 4, SIZE // 4 : -SIZE // 4]
    assert found[centre].mean() < 0.002
    painted = mask_non_diagnostic(marked)
    assert (
        np.abs(painted.astype(int) - clean)[truth].mean()
        < 0.4 * np.abs(marked.astype(int) - clean)[truth].mean()
    )


@pytest.mark.parametrize("seed", range(4))
def test_wires_are_found_and_bare_films_left_alone(seed: int) -> None:
    clean = film(seed)
    wired = clean.copy()
    cv2.line(wired, (90, 120), (240, 260), 255, 2, cv2.LINE_AA)
    truth = wired.astype(int) - clean > 60
    assert (find_devices(wired) > 0)[truth].mean() > 0.6
    assert (find_devices(clean) > 0).mean() < 0.01


@pytest.mark.parametrize("finding", ["", "Cardiomegaly", "Effusion"])
def test_the_cut_stays_below_the_lungs(finding: str) -> None:
    """Rows above the diaphragm's dome (y = 0.42, at 71 % of the height) are never cut."""
    for seed in range(3):
        cut = find_abdomen(film(seed, finding)) > 0
        assert not cut[: int(0.78 * SIZE)].any()
        assert cut.mean() <= 0.22


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_blank_films_survive_every_step(grey: int) -> None:
    blank = np.full((300, 280), grey, dtype=np.uint8)
    assert enhance(blank, Preprocessing()).shape == blank.shape


def test_noise_survives_every_step() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)
    assert mask_non_diagnostic(noise).shape == noise.shape
