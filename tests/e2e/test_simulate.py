"""The real thing, small: Flower's engine, anvil, the command line; and stopped on the way.

One file, so that the undisturbed run that all of these look at is made once.
"""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import SMALL, model_names, thoracle
from tests.e2e.processes import anvil_of, ended, start

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture
def run(undisturbed: Path) -> Path:
    return undisturbed


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


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the node by /proc")
def test_a_run_stopped_twice_ends_in_the_models_of_an_undisturbed_run(
    tmp_path: Path, undisturbed: Path
) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    process = start(
        tmp_path, "simulate", "--config", "small.toml", "--out", "run",
        until="Round 1: sum verified",
    )  # fmt: skip
    os.kill(anvil_of(tmp_path), signal.SIGKILL)
    told = ended(process)
    assert process.returncode == 1
    assert "LedgerUnavailable" in told
    assert "Traceback" not in told

    process = start(tmp_path, "simulate", "--resume", "run", until="Taking up the run")
    process.send_signal(signal.SIGINT)
    told = ended(process)
    assert process.returncode == 130
    assert "thoracle simulate --resume run" in told
    assert "Traceback" not in told

    done = thoracle("simulate", "--resume", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines())
    assert [row["outcome"] for row in rows] == ["SUM_VERIFIED"] * 2
    assert model_names(tmp_path / "run") == model_names(undisturbed / "one")
    audit = thoracle("audit", "verify", "run", cwd=tmp_path)
    assert audit.returncode == 0, audit.stdout
