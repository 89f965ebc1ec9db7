"""The real thing, small: Flower's engine, anvil, the command line, and hospitals that fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import thoracle

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]


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


def test_hospitals_that_fail_cost_only_their_own_place(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "tests.e2e.failing_run", str(tmp_path / "run")],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rounds = json.loads(done.stdout.splitlines()[-1])
    assert [row["outcome"] for row in rounds] == ["SUM_VERIFIED"] * 2
    for row in rounds:
        assert (row["accepted"], row["failed"]) == (2, 4)
    audit = thoracle("audit", "verify", "run", cwd=tmp_path)
    assert audit.returncode == 0, audit.stdout
