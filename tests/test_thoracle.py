"""The command line as a whole: an error is one sentence, and JSON where JSON was asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from thoracle import main


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["thoracle", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_an_error_is_one_sentence_and_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "audit", "bundle", str(tmp_path / "none"), "out.zip") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("ConfigError: ")
    assert len(said.err.splitlines()) == 1


def test_with_json_the_error_is_json_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    anchors = tmp_path / "anchors.json"
    anchors.write_text("{bad")
    words = ("audit", "verify", str(tmp_path), "--anchors", str(anchors), "--json")
    assert run(monkeypatch, *words) == 1
    said = capsys.readouterr()
    record = json.loads(said.out)
    assert record["error"] == "ConfigError"
    assert record["message"] in said.err
