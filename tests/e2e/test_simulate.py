"""The real thing, small: Flower's engine, anvil, the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import thoracle

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


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
