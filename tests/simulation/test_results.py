"""A run's rounds as the table that documents quote, from its own files."""

from pathlib import Path

import pytest

from ledger.errors import EvidenceMissing
from simulation.results import markdown


def test_the_table_is_the_files(tmp_path: Path) -> None:
    with pytest.raises(EvidenceMissing):
        markdown(tmp_path)
    (tmp_path / "metrics.csv").write_text(
        "round,outcome,accepted,refused,weight,gas,bytes_up,bytes_down,metric_auc\n"
        "1,SUM_VERIFIED,3,0,9,500123,1048576,1048576,0.5512\n"
        "2,ABORTED,1,2,0,400000,0,0,\n"
    )
    (tmp_path / "central.csv").write_text("round,macro_auc,macro_auc_AP\n1,0.6,0.58\n")
    first, second = markdown(tmp_path).splitlines()[2:]
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    assert cells == ["1", "sum verified", "3", "0", "9", "500,123", "2.0", "0.551", "0.600",
                     "0.580", "–"]  # fmt: skip
    assert second.endswith("| 0.0 | – | – | – | – |")
