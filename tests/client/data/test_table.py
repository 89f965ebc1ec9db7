"""Any CSV with a mapping file."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.data.check import Kind
from client.data.mapping import load_mapping
from client.data.sources import load_source
from client.data.table import check_table, load_table
from ledger.errors import ConfigError, DataError
from tests.client.data.trees import write_image

LISTED = """
table = "studies.csv"
images = "png"
source = "st-elsewhere"
[columns]
image = "file"
patient = "mrn"
age = "years"
sex = "gender"
view = "projection"
[views]
"postero-anterior" = "PA"
[labels]
list = "findings"
separator = ";"
none = ["normal"]
findings = ["Effusion", "Mass", "Rib fracture"]
skip = ["old scar"]
"""

CELLS = """
[columns]
image = "file"
patient = "mrn"
[labels]
columns = { Effusion = "eff", Mass = "mass" }
present = ["yes"]
absent = ["no"]
uncertain = ["?"]
unknown = ["", "n/a"]
"""


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    (tmp_path / "mapping.toml").write_text(LISTED)
    (tmp_path / "studies.csv").write_text(
        "mrn,file,years,gender,projection,findings\n"
        'p1,a.png,44,male,Postero-Anterior,"Effusion; Mass"\n'
        "p1,b.png,45Y,M,AP,normal\n"
        "p2,c.png,,,,old scar\n"
    )
    for number, name in enumerate("abc"):
        write_image(tmp_path / "png" / f"{name}.png", number)
    return tmp_path


def test_listed_findings(listed: Path) -> None:
    cohort = load_table(listed)
    assert cohort.vocabulary == ("Effusion", "Mass", "Rib fracture")
    assert cohort.source == "st-elsewhere"
    a, b, c = cohort.records
    assert (a.labels, b.labels, c.labels) == ((1, 1, 0), (0, 0, 0), (0, 0, 0))
    assert (a.patient, a.age, a.sex, a.view) == ("p1", 44, "M", "PA")
    assert (c.age, c.sex, c.view) == (None, None, None)
    assert check_table(listed).ok


def test_silence_may_be_unknown(listed: Path) -> None:
    mapping = listed / "mapping.toml"
    mapping.write_text(LISTED + 'silence = "unknown"\n')
    a, b, _ = load_table(listed).records
    assert a.labels == (1, 1, -1)
    assert b.labels == (0, 0, 0), "the cell that says there is none rules all out"


def test_one_column_a_finding(tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_text(CELLS)
    (tmp_path / "table.csv").write_text("file,mrn,eff,mass\na.png,p1,YES,no\nb.png,p2,?,n/a\n")
    write_image(tmp_path / "a.png", 0)
    write_image(tmp_path / "b.png", 1)
    assert [r.labels for r in load_table(tmp_path).records] == [(1, 0), (-2, -1)]
    assert [r.labels for r in load_source(tmp_path).records] == [(1, 0), (-1, -1)], "masked"
    ones = load_source(tmp_path, policy="ones")
    assert [r.labels for r in ones.records] == [(1, 0), (1, -1)]


def test_prepared_form_needs_no_mapping(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("image,patient,Mass,Fracture\nx/a.png,p,1,-1\n")
    write_image(tmp_path / "x" / "a.png", 0)
    cohort = load_table(tmp_path)
    assert cohort.vocabulary == ("Mass", "Fracture")
    assert cohort.records[0].labels == (1, -1)


@pytest.mark.parametrize(
    ("old", "new", "kind", "name"),
    [
        ("Effusion; Mass", "Effusion; Tumour", Kind.UNKNOWN_FINDING, "row 2"),
        ("44", "-3", Kind.BAD_ROW, "row 2"),
        ("male", "x", Kind.BAD_ROW, "row 2"),
        ("Postero-Anterior", "sideways", Kind.BAD_ROW, "row 2"),
        ("a.png", "../a.png", Kind.BAD_ROW, "row 2"),
        ("a.png", "/a.png", Kind.BAD_ROW, "row 2"),
        ("p2,c", ",c", Kind.BAD_ROW, "row 4"),
        ("b.png", "a.png", Kind.DUPLICATE_ROW, "a.png"),
        ("c.png", "d.png", Kind.MISSING, "d.png"),
    ],
)
def test_faults_are_named(listed: Path, old: str, new: str, kind: Kind, name: str) -> None:
    table = listed / "studies.csv"
    table.write_text(table.read_text().replace(old, new, 1))
    assert (kind, name) in {(p.kind, p.name) for p in check_table(listed).problems}
    with pytest.raises(DataError, match=name):
        load_table(listed)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('table = "studies.csv"', "table = 3", "table must be text"),
        ('separator = ";"', 'seperator = ";"', "unknown key seperator"),
        ('image = "file"', "", "lacks image"),
        ('"PA"', '"up"', "knows PA, AP, LATERAL"),
        ('list = "findings"', "", "needs either columns or list"),
        ('findings = ["Effusion", "Mass", "Rib fracture"]', "", "must name every finding"),
        ('separator = ";"', 'silence = "maybe"', "silence is absent or unknown"),
        ('skip = ["old scar"]', 'skip = "old scar"', "must be a list of texts"),
        ("[columns]", "[columns", "is not TOML"),
    ],
)
def test_mapping_faults(listed: Path, old: str, new: str, sentence: str) -> None:
    path = listed / "mapping.toml"
    path.write_text(LISTED.replace(old, new, 1))
    with pytest.raises(ConfigError, match=sentence):
        load_table(listed)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('image,patient,Mass\na.png,p,"1\nb.png,p,0\n', "line 3 is not a row"),
        ('image,patient,Mass\na.png,"p"q,1\n', "line 2 is not a row"),
        ("image;patient;Mass\na.png;p;1\n", "parted by ';'"),
        ("image,patient,Mass,\na.png,p,1,\n", "a column without a name"),
        ("image,patient,Mass\na.png,p\xe9,1\n", "not in UTF-8"),
    ],
)
def test_malformed_tables(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "table.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=sentence):
        load_table(tmp_path)


def test_a_cell_cannot_mean_two_things(tmp_path: Path) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(CELLS.replace('["no"]', '["YES"]'))
    with pytest.raises(ConfigError, match="two meanings"):
        load_mapping(path)


def test_columns_that_are_not_there(listed: Path) -> None:
    table = listed / "studies.csv"
    table.write_text(table.read_text().replace("mrn", "record", 1))
    with pytest.raises(DataError, match="lacks the column mrn"):
        load_table(listed)
