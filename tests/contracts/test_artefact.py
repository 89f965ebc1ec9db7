"""The committed artefact is the build of the sources, and what stands on the chain."""

from __future__ import annotations

import hashlib
import json

import pytest

from contracts import build
from contracts.artefact import ARTEFACT, ArtefactError, load_artefact, parse_artefact
from tests.contracts.pair import Pair


def test_artefact_is_the_build_of_the_sources() -> None:
    if not build.compiler_installed():
        pytest.skip("the pinned compiler is not installed: run `npm ci` in contracts/")
    assert build.encode(build.compile_contract()) == ARTEFACT.read_text(encoding="ascii")


def test_artefact_names_the_sources_as_they_are() -> None:
    own = {name: d for name, d in load_artefact().sources.items() if name.startswith("contracts/")}
    files = {
        f"contracts/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in ARTEFACT.parent.glob("*.sol")
    }
    assert own == files


def test_deployed_code_matches_whatever_the_immutables() -> None:
    code = Pair().evm.code
    artefact = load_artefact()
    assert code != artefact.deployed_bytecode
    assert artefact.matches(code)
    assert len(code) <= 24_576


@pytest.mark.parametrize("place", ["opcode", "length", "empty"])
def test_other_code_does_not_match(place: str) -> None:
    code = bytearray(Pair().evm.code)
    start = load_artefact().immutables[0][0]
    changed = {
        "opcode": bytes(code[: start - 1] + bytes([code[start - 1] ^ 1]) + code[start:]),
        "length": bytes(code + b"\0"),
        "empty": b"",
    }
    assert not load_artefact().matches(changed[place])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}', "null"])
def test_damaged_artefact_is_refused(text: str) -> None:
    with pytest.raises(ArtefactError):
        parse_artefact(text)


def test_artefact_without_a_field_is_refused() -> None:
    record = json.loads(ARTEFACT.read_text(encoding="ascii"))
    del record["deployedBytecode"]
    with pytest.raises(ArtefactError):
        parse_artefact(json.dumps(record))


def test_missing_compiler_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    assert build.main(["--check"]) == 1
    assert capsys.readouterr().err.startswith("Node is missing")
