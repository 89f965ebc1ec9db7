"""What people and programs are shown of an audit, and the commands that show it."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console
from typer.testing import CliRunner

from ledger.archive import FolderSource
from ledger.audit import EPSILON, NO_EPSILON, NOT_PROVEN, PROVEN, AuditReport, audit
from ledger.audit_commands import app
from ledger.report import print_report, report_record
from ledger.report_html import render
from ledger.report_svg import bars, lineage, lines, matrix
from ledger.run_facts import held_keys, read_facts
from ledger.statement import Unit
from tests.ledger.audited_run import Federation

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def run(honest: Federation) -> Path:
    return honest.folder


@pytest.fixture(scope="module")
def anchors(honest: Federation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trust") / "anchors.json"
    path.write_text(honest.ledger.anchors.to_json())
    return path


@pytest.fixture(scope="module")
def report(run: Path) -> AuditReport:
    keys, _ = held_keys(run)
    return audit(read_facts(FolderSource(run), keys=keys))


@pytest.fixture
def tampered(run: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    path = next((copy / "sums").iterdir())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    return copy


def test_the_record_is_json_and_says_what_is_proven(report: AuditReport) -> None:
    record = json.loads(json.dumps(report_record(report), allow_nan=False))
    assert record["clean"] is True
    assert set(record["proven"]) == set(report.reached)
    assert set(PROVEN["chain"]) | {EPSILON} == set(record["proven"]["chain"])
    assert record["not_proven"] == list(NOT_PROVEN)
    assert [item["outcome"] for item in record["rounds"]] == ["SumVerified", "SumVerified"]
    assert record["rounds"][1]["refused"] != {}
    assert sum(item["gas"] for item in record["rounds"]) > 500_000
    assert {item["unit"] for item in record["budgets"]} == {"patient"}
    assert record["digest"] == report.digest().hex()


def test_a_run_without_privacy_claims_no_epsilon(report: AuditReport) -> None:
    assert report.history is not None
    open_rules = replace(report.history.rules, privacy_unit=Unit.NONE)
    without = replace(report, history=replace(report.history, rules=open_rules))
    assert EPSILON not in without.proven["chain"]
    assert NO_EPSILON in without.not_proven
    assert NO_EPSILON not in report.not_proven
    for shown in (json.dumps(report_record(without)), render(without)):
        assert EPSILON not in shown
        assert NO_EPSILON in shown


def test_the_table_names_people_and_the_verdict(report: AuditReport) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    print_report(report, console)
    text = console.export_text()
    assert "hospital-2" in text
    assert "declared, not verified" in text
    assert "insecure-test" in text
    assert text.rstrip().endswith(report.verdict)


class _Links(HTMLParser):
    """Collects whatever would leave the page."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "link", "iframe", "img", "object"}:
            self.outside.append(tag)
        self.outside += [name for name, _ in attrs if name in {"src", "href", "onload"}]


def test_the_page_is_self_contained_and_its_pictures_are_well_formed(report: AuditReport) -> None:
    page = render(report)
    links = _Links()
    links.feed(page)
    assert links.outside == []
    assert "http" not in page.replace("http-equiv", "")
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    assert len(pictures) == 4
    for picture in pictures:
        ET.fromstring(picture)  # noqa: S314 - our own text, checked for form
    assert render(report) == page
    assert report.verdict in page


def test_hostile_names_cannot_write_markup(report: AuditReport) -> None:
    import dataclasses

    who = next(iter(report.names))
    evil = dataclasses.replace(report, names=dict.fromkeys(report.names, "<script>x</script>"))
    assert who
    assert "<script>" not in render(evil)
    assert "&lt;script&gt;" in render(evil)


@pytest.mark.parametrize(
    "picture",
    [
        matrix(["1"], ["a & b"], {(0, 0): ("attested", '"quoted" <title>')}),
        matrix([str(i) for i in range(300)], ["a"], {}),
        lines({"a": [(1, 0.5), (2, 1.0)]}, {"a": 2.0}, "epsilon"),
        lines({"a": [(1, 0.5)]}, {"a": 1e9}, "epsilon"),
        bars([("a", 0.0, "nothing")]),
        bars([]),
        lineage([(f"round {i}", "ab" * 32, "final") for i in range(20)]),
    ],
)
def test_pictures_of_odd_runs_are_well_formed(picture: str) -> None:
    root = ET.fromstring(picture)  # noqa: S314
    numbers = re.findall(r'(?:x|y|width|height|cx|cy)="(-?[\d.]+|nan|inf)"', picture)
    assert root.tag == "svg"
    assert all(float(number) >= 0 for number in numbers)


def test_no_line_without_points() -> None:
    assert lines({"a": []}, {"a": 1.0}, "epsilon") == ""


# ---- the commands ----


def test_verify_prints_json_and_exits_zero(run: Path, anchors: Path) -> None:
    result = RUNNER.invoke(app, ["verify", str(run), "--json", "--anchors", str(anchors)])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["origin_proven"] is True
    assert record["reached"] == ["chain", "models", "replay"]


def test_verify_of_an_edited_run_exits_one_and_names_it(tampered: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = RUNNER.invoke(app, ["verify", str(tampered), "--json", "--html", str(page)])
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert record["clean"] is False
    assert record["proven"] == {}
    assert {item["error"] for item in record["findings"] if item["severity"] == "failure"} == {
        "EvidenceMismatch"
    }
    assert "sums/" in record["verdict"]
    assert "DOES NOT HOLD" in page.read_text()


def test_verify_of_a_damaged_bundle_exits_one(tampered: Path) -> None:
    path = tampered / "chain" / "bundle.json"
    path.write_bytes(path.read_bytes()[:-100])
    result = RUNNER.invoke(app, ["verify", str(tampered), "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["findings"][0]["error"] == "BundleInvalid"


def test_bundle_and_replay_elsewhere(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.zip"
    assert RUNNER.invoke(app, ["bundle", str(run), str(out)]).exit_code == 0
    plain = RUNNER.invoke(app, ["verify", str(out), "--json"])
    assert json.loads(plain.stdout)["reached"] == ["chain", "models"]
    key = run / "keys" / "seal-1.json"
    opened = RUNNER.invoke(app, ["replay", str(out), "--key", str(key), "--json"])
    assert opened.exit_code == 0
    assert json.loads(opened.stdout)["reached"] == ["chain", "models", "replay"]


def test_report_writes_the_page(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "audit.html"
    result = RUNNER.invoke(app, ["report", str(run), "--html", str(page)])
    assert result.exit_code == 0
    assert page.read_text().startswith("<!doctype html>")


def test_help_teaches_by_example() -> None:
    for command in ("verify", "replay", "bundle", "report"):
        assert "Example: thoracle audit" in RUNNER.invoke(app, [command, "--help"]).stdout
