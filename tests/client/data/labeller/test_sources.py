"""Every form of reports, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from client.data.labeller.openi import parse_openi
from client.data.labeller.sources import MAX_REPORT, Columns, read_reports
from ledger.errors import ConfigError, DataError

OPENI = b"""<?xml version="1.0" encoding="utf-8"?>
<eCitation><meta type="rr"/><uId id="CXR7"/><pmcId id="7"/>
<MedlineCitation><Article><Abstract>
<AbstractText Label="INDICATION">Pneumonia</AbstractText>
<AbstractText Label="FINDINGS">No effusion &amp; no XXXX.</AbstractText>
<AbstractText Label="IMPRESSION"/>
</Abstract></Article></MedlineCitation></eCitation>"""


def texts(path: Path, columns: Columns | None = None) -> dict[str, str]:
    return {r.name: r.text for r in read_reports(path, columns)}


def test_openi() -> None:
    name, text = parse_openi(OPENI, "7.xml")
    assert name == "CXR7"
    assert text == "INDICATION: Pneumonia\n\nFINDINGS: No effusion & no XXXX."


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE a [<!ENTITY x "y">]><eCitation><AbstractText>&x;</AbstractText></eCitation>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b"<a>" * 100 + b"</a>" * 100,
        b"<a><b></a>",
        b"not xml",
        b"",
        b"<other/>",
        '<!DOCTYPE a [<!ENTITY x "y">]><a/>'.encode("utf-16"),
    ],
)
def test_openi_refuses(data: bytes) -> None:
    with pytest.raises(DataError, match=r"odd\.xml"):
        parse_openi(data, "odd.xml")


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "p10").mkdir()
    (tmp_path / "p10" / "s1.txt").write_text("No edema.")
    (tmp_path / "old.txt").write_bytes(b"No \x93edema\x94.")
    (tmp_path / "7.xml").write_bytes(OPENI)
    found = texts(tmp_path)
    assert set(found) == {"p10/s1", "old", "CXR7"}
    assert found["old"] == "No “edema”."


def test_text_files_of_other_systems(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("No edema.".encode("utf-16"))
    (tmp_path / "folder.txt").mkdir()
    assert texts(tmp_path) == {"a": "No edema."}
    (tmp_path / "b.txt").write_bytes("No edema.".encode("utf-16-le"))
    with pytest.raises(DataError, match="not a text file"):
        texts(tmp_path)
    (tmp_path / "b.txt").unlink()
    os.mkfifo(tmp_path / "b.txt")
    with pytest.raises(DataError, match="not a regular file"):
        texts(tmp_path)


def test_tables(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text('uid,indication,findings,impression\n1,CHF,"No\neffusion",\n2,,,Edema\n')
    assert texts(table) == {
        "1": "INDICATION: CHF\n\nFINDINGS: No\neffusion\n\nIMPRESSION: ",
        "2": "INDICATION: \n\nFINDINGS: \n\nIMPRESSION: Edema",
    }
    lines = tmp_path / "a.jsonl"
    lines.write_text("\n".join(json.dumps({"text": t, "split": s}) for t, s in ("ab", "cd")))
    assert texts(lines) == {"1": "a", "2": "c"}
    assert texts(lines, Columns(split="d")) == {"2": "c"}
    assert texts(lines, Columns(text="split", name="text")) == {"a": "b", "c": "d"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"id,other\n1,secret\n", "--column"),
        ("a.csv", b"id,text\n1\n", "line 2"),
        ("a.csv", b"id,id\n1,2\n", "twice"),
        ("a.csv", b"", "header"),
        ("a.csv", b"id,text\n", "no reports"),
        ("a.csv", b'id,text\n1,"secret', "line"),
        ("a.csv", b"id,text\n1,\xff\n", "UTF-8"),
        ("a.jsonl", b"{\n", "line 1"),
        ("a.jsonl", b"[" * 100_000, "line 1"),
        ("a.jsonl", b"[1]\n", "line 1"),
        ("a.txt", b"secret " * (MAX_REPORT // 6), "longer"),
        ("a.csv", b"id,text\n1," + b"secret " * (MAX_REPORT // 6), "longer"),
        ("a.csv", b"id,text\n1," + b"s" * (5 * MAX_REPORT), "longer"),
    ],
)
def test_refusals_quote_nothing(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises((DataError, ConfigError)) as caught:
        list(read_reports(path))
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.txt or \.xml"):
        list(read_reports(tmp_path))
    with pytest.raises(DataError, match="neither"):
        list(read_reports(tmp_path / "none"))
