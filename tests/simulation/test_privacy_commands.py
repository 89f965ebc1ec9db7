"""``thoracle privacy plan``: what a privacy officer is told before a run."""

from __future__ import annotations

import json

import pytest
from typer import Typer
from typer.testing import CliRunner

from ledger.epsilon import Release, epsilon_of
from simulation.privacy_commands import app

RUNNER = CliRunner()
WORDS = ["plan", "--epsilon", "3", "--rounds", "2", "--sample-rate", "0.25", "--steps", "10"]


@pytest.fixture(scope="module")
def record() -> dict[str, object]:
    found: dict[str, object] = json.loads(RUNNER.invoke(app, [*WORDS, "--json"]).stdout)
    return found


def test_the_record_is_in_plain_numbers_that_give_its_epsilon(record: dict[str, object]) -> None:
    release = Release(
        noise_multiplier=float(str(record["noise_multiplier"])),
        sample_rate=float(str(record["sample_rate_per_step"])),
        steps=int(str(record["steps_per_round"])) * int(str(record["rounds"])),
    )
    spent = record["epsilon_by_round"]
    assert isinstance(spent, list)
    assert record["unit"] == "patient"
    assert record["sample_rate_per_step"] == 0.25
    assert record["delta"] == 1e-5
    assert epsilon_of([release], 1e-5) == pytest.approx(spent[-1])
    assert 2.99 < spent[-1] <= 3
    assert float(str(record["epsilon_pld_for_information"])) < spent[-1]


def test_scaled_integers_are_named_as_such(record: dict[str, object]) -> None:
    chain = record["on_chain"]
    assert isinstance(chain, dict)
    assert chain["noise_multiplier_in_1e-6"] == round(float(str(record["noise_multiplier"])) * 1e6)
    assert chain["sample_rate_in_1e-9"] == 250_000_000
    assert all("_in_1e-" in name for name in chain)


def test_people_are_told_the_unit_and_what_two_hospitals_mean() -> None:
    shown = RUNNER.invoke(app, [*WORDS, "--patients", "926"])
    assert shown.exit_code == 0
    text = " ".join(shown.stdout.split())
    assert "epsilon per patient" in text
    assert "Expected batch at 926 patients: 232 a step" in text
    assert "known to two hospitals" in text


def test_a_unit_that_is_none_is_named() -> None:
    from ledger.errors import ConfigError

    group = Typer()
    group.add_typer(app, name="privacy")
    found = RUNNER.invoke(group, ["privacy", *WORDS, "--unit", "hospital"])
    assert isinstance(found.exception, ConfigError)
