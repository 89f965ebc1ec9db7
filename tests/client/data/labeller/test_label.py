"""``thoracle data label``, the labelled sentences and the scores."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support
from typer.testing import CliRunner

from client.data.label_commands import register
from client.data.labeller.aggregate import COLUMNS
from client.data.labeller.evaluate import TASKS, evaluate, read_reference
from client.data.labeller.phrases import LABELS
from client.data.records import ABSENT, PRESENT, UNCERTAIN, UNKNOWN
from ledger.errors import DataError, OutputError

SENTENCES = Path(__file__).parent / "sentences.csv"
BLIND = SENTENCES.with_name("blind.csv")
"""Written before the rules were read; the first scores on it are in docs/labelling.md."""
DICTATED = SENTENCES.with_name("dictated.csv")
"""Labelled before the rules were run on it; the first scores on it are in docs/labelling.md."""

app = typer.Typer()
register(app)


@app.callback()
def _data() -> None:
    """Two commands' worth of help, as ``thoracle data`` has it."""


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["label", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_labelled_set_is_sound() -> None:
    with SENTENCES.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) >= 250
    assert len({row["id"] for row in rows}) == len({row["sentence"] for row in rows}) == len(rows)
    for split in ("development", "held-out"):
        stated = {
            item.partition(":")[0]
            for row in rows
            if row["split"] == split
            for item in row["labels"].split("|")
        }
        assert set(LABELS) <= stated
    read_reference(SENTENCES)


@pytest.mark.parametrize("split", ["development", "held-out"])
def test_scores_on_the_labelled_set(tmp_path: Path, split: str) -> None:
    text = run(SENTENCES, tmp_path / "out.csv", "--against", SENTENCES, "--split", split, "--json")
    figures = json.loads(text)["evaluation"]
    assert figures["reports"] > 200
    assert figures["mean_f1"]["mention"] >= 0.95
    assert figures["mean_f1"]["negation"] >= 0.95
    assert figures["mean_f1"]["uncertainty"] >= 0.90


def test_scores_on_the_blind_set(tmp_path: Path) -> None:
    text = run(BLIND, tmp_path / "out.csv", "--against", BLIND, "--json")
    figures = json.loads(text)["evaluation"]
    assert figures["reports"] == 156
    assert figures["mean_f1"]["mention"] >= 0.97
    assert figures["mean_f1"]["negation"] >= 0.95
    assert figures["mean_f1"]["uncertainty"] >= 0.85


@pytest.mark.parametrize(("split", "reports"), [("dictated", 130), ("second", 70)])
def test_scores_on_the_dictated_set(tmp_path: Path, split: str, reports: int) -> None:
    text = run(DICTATED, tmp_path / "out.csv", "--against", DICTATED, "--split", split, "--json")
    figures = json.loads(text)["evaluation"]
    assert figures["reports"] == reports
    assert figures["mean_f1"]["mention"] >= 0.98
    assert figures["mean_f1"]["negation"] >= 0.97
    assert figures["mean_f1"]["uncertainty"] >= 0.95


def test_labels_never_replace_what_is_read(tmp_path: Path) -> None:
    reports = tmp_path / "r.csv"
    reports.write_text("id,report\n1,Edema\n")
    for arguments in ((reports, reports), (SENTENCES, reports, "--against", reports)):
        with pytest.raises(OutputError, match="another file"):
            run(*arguments)
    assert reports.read_text() == "id,report\n1,Edema\n"


def test_table_of_labels(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "a.txt").write_text("Possible effusion. No edema. Hernia.")
    out = tmp_path / "new" / "out.csv"
    assert "1 reports" in run(folder, out)
    with out.open() as stream:
        (row,) = csv.DictReader(stream)
    assert tuple(row) == ("id", *COLUMNS)
    said = {name: label for name, label in row.items() if label}
    assert said == {"id": "a", "Effusion": "-1", "Edema": "0", "Hernia": "1"}
    assert out.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in out.parent.iterdir()] == ["out.csv"]


def test_a_failure_leaves_the_old_table(tmp_path: Path) -> None:
    bad = tmp_path / "a.csv"
    bad.write_text("id,text\n1,Edema.\n2\n")
    out = tmp_path / "out.csv"
    out.write_text("old")
    with pytest.raises(DataError, match="line 3"):
        run(bad, out)
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "out.csv"]


def test_out_that_cannot_be_written(tmp_path: Path) -> None:
    reports = tmp_path / "a.txt"
    reports.write_text("Edema.")
    with pytest.raises(OutputError, match="cannot write"):
        run(reports, reports / "out.csv")


def test_reference_of_chexpert_columns(tmp_path: Path) -> None:
    reports = tmp_path / "a.csv"
    reports.write_text("id,text\n1,No effusion.\n2,Edema.\n3,not labelled\n")
    reader = tmp_path / "reader.csv"
    reader.write_text("id,Pleural Effusion,Edema,Sex\n1,0.0,,F\n2,,-1,M\n")
    text = run(reports, tmp_path / "out.csv", "--against", reader, "--json")
    figures = json.loads(text)["evaluation"]
    assert figures["reports"] == 2
    assert set(figures["findings"]) == {"Effusion", "Edema"}
    assert figures["findings"]["Edema"]["mention"]["f1"] == 1.0
    assert figures["findings"]["Edema"]["uncertainty"]["recall"] == 0.0
    assert figures["findings"]["Edema"]["negation"]["f1"] is None
    shown = run(reports, tmp_path / "out.csv", "--against", reader)
    assert "Effusion" in shown


@pytest.mark.parametrize(
    ("reader", "says"),
    [
        ("id,Edema\n9,1\n", "the first on line 2"),
        ("id,Edema\n1,1\n1,0\n", "line 2 again"),
        ("id,Edema\n1,maybe\n", "line 2"),
        ("id,Gout\n1,1\n", "none of the findings"),
    ],
)
def test_reference_refused(tmp_path: Path, reader: str, says: str) -> None:
    reports = tmp_path / "a.csv"
    reports.write_text("id,text\n1,No effusion.\n")
    (tmp_path / "reader.csv").write_text(reader)
    with pytest.raises(DataError, match=says):
        run(reports, tmp_path / "out.csv", "--against", tmp_path / "reader.csv")


LABEL = st.sampled_from([PRESENT, ABSENT, UNCERTAIN, UNKNOWN])


@settings(max_examples=25)  # scikit-learn takes milliseconds a call
@given(st.lists(st.tuples(LABEL, LABEL), min_size=1, max_size=40))
def test_scores_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    scored = evaluate([({"Edema": f}, {"Edema": s}) for f, s in pairs], ["Edema"])
    for task, positive in TASKS.items():
        found = [f in positive for f, _s in pairs]
        stated = [s in positive for _f, s in pairs]
        precision, recall, f1, _ = precision_recall_fscore_support(
            stated, found, average="binary", zero_division=0
        )
        score = scored.scores["Edema"][task]
        assert (score.precision or 0) == pytest.approx(precision)
        assert (score.recall or 0) == pytest.approx(recall)
        assert (score.f1 or 0) == pytest.approx(f1)
