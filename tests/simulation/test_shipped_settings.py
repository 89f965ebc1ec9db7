"""Settings that documents send readers to are those that were measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from simulation.compare import read_cells
from simulation.settings import read_config, settings_from

FOLDER = Path(__file__).parents[2] / "simulation"


@pytest.mark.parametrize(
    ("file", "cell"),
    [
        ("nih-ssganvit.toml", "ssganvit_federated_silos_seed0"),
        ("nih-ssganvit-private.toml", "ssganvit_private_silos_seed0"),
    ],
)
def test_a_user_s_file_is_the_bench_s_cell(file: str, cell: str) -> None:
    cells = {one.name: one for one in read_cells(FOLDER / "compare_ssganvit.toml", "phantoms")}
    measured = cells[cell].settings
    mine = settings_from(read_config(FOLDER / file))
    # Where films are cached and how many processors there are changes no result.
    assert mine == replace(measured, cache=mine.cache, cpus=mine.cpus)
