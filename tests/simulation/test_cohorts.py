"""Whose radiographs: any source, several sources, and what their silence becomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.data.records import FINDINGS
from ledger.errors import DataError
from simulation.cohorts import gather
from simulation.phantoms import write_phantoms
from simulation.settings import Settings


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("trees")
    return {
        layout: write_phantoms(home / layout, 12, 1, size=32, layout=layout).root
        for layout in ("nih", "chexpert", "dicom")
    }


@pytest.mark.parametrize("layout", ["nih", "chexpert", "dicom"])
def test_any_source_is_gathered(trees: dict[str, Path], layout: str, tmp_path: Path) -> None:
    found = gather(Settings(data=str(trees[layout]), hospitals=2, size=32), tmp_path)
    assert found.train.vocabulary == FINDINGS
    assert (found.test is None) == (layout == "dicom")
    rows = np.concatenate([np.concatenate([h.train, h.held]) for h in found.hospitals])
    assert sorted(rows.tolist()) == list(range(len(found.train)))


def test_sources_with_other_vocabularies_train_together(
    trees: dict[str, Path], tmp_path: Path
) -> None:
    settings = Settings(
        data=",".join(str(root) for root in trees.values()),
        hospitals=3,
        partition="source",
        size=32,
    )
    found = gather(settings, tmp_path)
    labels = found.train.label_matrix()
    silent = FINDINGS.index("Hernia")
    for hospital in found.hospitals:
        records = [found.train.records[i] for i in hospital.train]
        assert len({r.source for r in records}) == 1
        unknown = set(labels[hospital.train][:, silent].tolist()) == {-1}
        assert unknown == (records[0].source == "chexpert"), "silence is unknown, not absent"
        assert set(np.unique(labels[hospital.train])) <= {1, 0, -1}
    assert found.test is not None
    assert {r.source for r in found.test.records} == {"nih", "chexpert"}


def test_a_folder_that_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the known sources"):
        gather(Settings(data=str(tmp_path), size=32), tmp_path / "p")
