"""The pointing game: distances, what counts as a hit, and the two points that saw no film."""

import numpy as np
import pytest

from client.data.boxes import Box
from simulation.pointing import TOLERANCE, Game, distance, score

BOX = Box(finding="Mass", left=0.2, top=0.3, width=0.1, height=0.2)


def test_distances_from_a_box() -> None:
    points = np.array([[0.25, 0.4], [0.3, 0.5], [0.1, 0.4], [0.33, 0.54], [0.25, 0.1]])
    assert distance(points, BOX) == pytest.approx([0, 0, 0.1, 0.05, 0.2], abs=1e-12)


def test_hits_need_any_box_and_a_peak() -> None:
    middle = Box(finding="Mass", left=0.45, top=0.45, width=0.1, height=0.1)
    inside, near, off = (0.25, 0.4), (0.3 + 0.9 * TOLERANCE, 0.4), (0.3 + 1.1 * TOLERANCE, 0.4)
    found = score("Mass", [inside, near, off, None], [[BOX]] * 4)
    assert (found.films, found.hits, found.strict, found.centre) == (4, 2, 1, 0)
    either = score("Mass", [inside, (0.5, 0.5), (0.9, 0.9)], [[BOX, middle]] * 3)
    assert (either.hits, either.strict, either.centre) == (2, 2, 3)
    assert either.rates["rate"] == pytest.approx(2 / 3)


def test_an_evenly_drawn_point_hits_as_often_as_the_grown_box_is_large() -> None:
    t = TOLERANCE
    area = BOX.width * BOX.height + 2 * t * (BOX.width + BOX.height) + np.pi * t * t
    one = score("Mass", [None], [[BOX]])
    assert one.random == pytest.approx(area, rel=0.02)
    assert score("Mass", [None], [[BOX, BOX]]).random == one.random  # a union, not a sum
    generator = np.random.default_rng(0)
    drawn = [tuple(point) for point in generator.random((400, 2)).tolist()]
    many = score("Mass", drawn, [[BOX]] * 400)
    assert many.rates["rate"] == pytest.approx(many.rates["random_rate"], abs=0.05)


def test_the_record_pools_films_and_weighs_findings_alike() -> None:
    good = score("Mass", [(0.25, 0.4)], [[BOX]])
    bad = score("Nodule", [None] * 3, [[BOX]] * 3)
    found = Game(scores=(good, bad), grid=(4, 4), outside=2).to_record()
    assert found["mean_rate"] == 0.5
    total = found["all"]
    assert isinstance(total, dict)
    assert (total["films"], total["rate"]) == (4, 0.25)
