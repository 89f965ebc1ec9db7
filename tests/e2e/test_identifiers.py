"""A whole run on DICOM files with planted identifiers: none is in anything it leaves or says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread

from ledger.node_process import find_anvil
from simulation.phantoms import write_phantoms

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
CONFIG = """
data = "films"
size = 32
learner = "cnn"
learner_options = { width = 8 }
hospitals = 2
rounds = 1
commit_window = 120
attest_window = 60
cpus = 1
epsilon = "off"
"""
IDENTIFYING = (
    "PatientID",
    "PatientAddress",
    "AccessionNumber",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "ReferringPhysicianName",
    "InstitutionName",
)
TEXT = {".json", ".csv", ".log", ".toml", ".jsonl", ".txt", ".md"}


def planted(films: Path) -> tuple[set[bytes], set[bytes]]:
    """Return identifiers, and dates (too short to be looked for in binary files)."""
    words: set[str] = set()
    dates: set[str] = set()
    for path in films.rglob("*.dcm"):
        header = dcmread(path, stop_before_pixels=True)
        words |= {str(header[keyword].value) for keyword in IDENTIFYING}
        words |= {header.PatientName.family_name, path.parent.parent.name}
        dates |= {str(header.StudyDate), str(header.PatientBirthDate)}
    return {w.encode() for w in words}, {d.encode() for d in dates}


def test_no_planted_identifier_is_in_any_artefact(tmp_path: Path) -> None:
    find_anvil()
    films = write_phantoms(tmp_path / "films", 16, 4, size=32, layout="dicom").root
    words, dates = planted(films)
    assert len(words) > 60
    (tmp_path / "small.toml").write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-m", "thoracle", "simulate", "--config", "small.toml", "--out", "run"],
        cwd=tmp_path,
        capture_output=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) > 20
    said = {"what was printed": done.stdout + done.stderr}
    found = []
    written = {str(path.relative_to(tmp_path)): path.read_bytes() for path in files}
    for name, data in {**said, **written}.items():
        bait = words | dates if Path(name).suffix in TEXT or name in said else words
        found += [(name, word) for word in bait if word in data or word in name.encode()]
    assert found == []
