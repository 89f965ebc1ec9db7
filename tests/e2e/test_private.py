"""A private run from the command line to the audit: one number per hospital, nothing beside it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from ledger.node_process import find_anvil
from tests.e2e.conftest import thoracle

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
CONFIG = """
patients = 110
size = 32
learner = "cnn"
learner_options = { width = 8 }
rounds = 2
steps = 2
sample_rate = 0.3
commit_window = 900
attest_window = 600
cpus = 1
insecure_noise = true
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    find_anvil()
    folder = tmp_path_factory.mktemp("private")
    (folder / "small.toml").write_text(CONFIG)
    done = thoracle("simulate", "--config", "small.toml", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stderr.split())
    assert "Privacy: epsilon 8 for each patient of a hospital" in told
    return folder


def test_no_score_of_a_hospital_s_patients_leaves(run: Path) -> None:
    rows = list(csv.DictReader((run / "run" / "metrics.csv").read_text().splitlines()))
    assert [row["outcome"] for row in rows] == ["SUM_VERIFIED"] * 2
    assert not [name for row in rows for name in row if name.startswith("metric_") and row[name]]
    assert (run / "run" / "central.csv").is_file()  # scored on the test list instead


def test_the_audit_recomputes_every_epsilon_and_marks_known_noise(run: Path) -> None:
    done = thoracle("audit", "verify", "run", "--json", cwd=run)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(done.stdout)
    planned = json.loads((run / "run" / "run.json").read_text())["privacy"]["epsilon_by_round"]
    assert len(record["budgets"]) == 3
    for budget in record["budgets"]:
        assert (budget["unit"], budget["charges"]) == ("patient", 2)
        assert budget["spent"] == pytest.approx(budget["recomputed"], abs=2e-6)
        assert budget["spent"] == pytest.approx(planned[-1], abs=2e-6)
        assert budget["spent"] <= budget["cap"] == 8.0
    assert any("every epsilon follows" in item for item in record["proven"]["chain"])
    assert any("insecure-test" in mark for mark in record["marks"])


def test_what_was_spent_is_in_the_hospital_s_own_file(run: Path) -> None:
    book = run / "run" / "hospitals" / "0" / "accountant.sqlite"
    assert book.stat().st_size > 0
    assert book.stat().st_mode & 0o077 == 0
