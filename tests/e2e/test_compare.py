"""A federated cell of a bench: a real audited run that asks all that plain rounds may."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import thoracle

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

GRID = """
[settings]
patients = 36
size = 32
learner_options = { width = 8 }
rounds = 2
commit_window = 600
attest_window = 300
cpus = 1
[variants.adaptive]
server = { name = "fedadam", rate = 0.01 }
train_options = { proximal = 0.1, parts = 2, logit_adjustment = 1.0 }
[grid]
mode = ["federated"]
learner = ["cnn"]
variant = ["adaptive"]
"""


def test_a_federated_cell_is_an_audited_run_that_predicts(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(GRID)
    made = thoracle("compare", "grid.toml", "--out", "bench", "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    (row,) = json.loads(made.stdout)
    assert (row["mode"], row["variant"], row["steps"]) == ("federated", "adaptive", 2)
    assert 0 <= row["low"] <= row["macro_auc"] <= row["high"] <= 1
    assert row["federated_auc"] is not None
    assert row["mebibytes"] > 0
    (run,) = (tmp_path / "bench" / "work").iterdir()
    audited = thoracle("audit", "verify", str(run), "--json", cwd=tmp_path)
    assert audited.returncode == 0, audited.stdout
    (config,) = {
        json.dumps(json.loads(path.read_text())["server"]) for path in (run / "configs").iterdir()
    }
    assert json.loads(config)["name"] == "fedadam"
    film = next(run.rglob("*.png"))
    told = thoracle("predict", str(run), str(film), "--json", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert (found["round"], found["latest"]) == (2, True)
    assert len(found["films"][0]["findings"]) == 14
