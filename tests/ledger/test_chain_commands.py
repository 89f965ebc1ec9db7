from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ledger.chain_commands import _print_show, app, open_run
from ledger.chain_view import event_record, show_record
from ledger.devchain import DevChain
from ledger.errors import ConfigError, HeadMismatch
from ledger.statement import Unit
from ledger.witness import Witness
from tests.ledger.small_federation import CAP, found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Witness files of two hospitals that were shown two chains, and one of an earlier time."""
    folder, chain = tmp_path_factory.mktemp("witnesses"), DevChain()
    fed = found(chain.web3, hospitals=1)
    moment = chain.snapshot()
    Witness(folder / "early.json", fed.ledger, now=chain.clock).advance()
    for name, weight in (("a", 5), ("b", 6)):
        fed.ledger.set_weight(fed.hospitals[0], weight)
        Witness(folder / f"{name}.json", fed.ledger, now=chain.clock).advance()
        chain.revert(moment)
    return folder


def test_agreeing_witnesses(files: Path) -> None:
    arguments = ["witness", str(files / "a.json"), str(files / "early.json")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "agree" in result.stdout
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(result.stdout) == {"common": 2, "agreed": 1, "split": None, "heads": None}


def test_split_witnesses(files: Path) -> None:
    arguments = ["witness", str(files / "a.json"), str(files / "b.json")]
    with pytest.raises(HeadMismatch, match="split at record 2"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert (record["split"], record["agreed"]) == (2, 1)
    assert record["heads"][0] != record["heads"][1]


def test_a_ledger_as_plain_values(capsys: pytest.CaptureFixture[str]) -> None:
    fed = found(DevChain().web3, unit=Unit.PATIENT)
    fed.round(epsilon=2_500_000)
    fed.open()
    record = json.loads(json.dumps(show_record(fed.ledger)))
    assert [r["outcome"] for r in record["rounds"]] == ["sum_verified", "live"]
    assert record["rounds"][0]["accepted_weight"] == 210
    assert record["rounds"][0]["reasons"] == {"2": "InertUpdate"}
    assert record["rounds"][0]["dissented"] == {fed.hospitals[2].address: "InertUpdate"}
    assert record["rounds"][1]["model"] is None
    assert record["members"][0]["epsilon_spent"] == 2.5
    assert record["members"][0]["epsilon_cap"] == CAP / 1e6
    assert record["privacy_unit"] == "patient"
    _print_show(record)
    assert "patient" in capsys.readouterr().out  # the unit stands beside every epsilon
    events = json.loads(json.dumps([event_record(e) for e in fed.ledger.events()]))
    committed = next(e for e in events if e["name"] == "Committed")
    assert committed["args"]["mechanism"]["epsilon"] == 2_500_000
    deployed = next(e for e in events if e["name"] == "Deployed")
    assert deployed["args"]["founders"] == [h.address for h in fed.hospitals]


def test_what_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="anchors"), open_run(tmp_path):
        pass
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ConfigError), open_run(tmp_path):
        pass
    fed = found(DevChain().web3, hospitals=1)
    (tmp_path / "run.json").write_text(fed.ledger.anchors.to_json())
    with pytest.raises(ConfigError, match="holds no chain"), open_run(tmp_path):
        pass
