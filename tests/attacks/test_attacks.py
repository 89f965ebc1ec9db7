"""Runs every row of the attack table."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.case import Case, run_case
from tests.attacks.document import PATH, document
from tests.attacks.stages import Stages
from tests.attacks.table import ELSEWHERE, TABLE


@pytest.fixture(scope="session")
def stages() -> Iterator[Stages]:
    memory = Path("/dev/shm")  # noqa: S108 - hundreds of fsyncs, nothing secret
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield Stages(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_attack(case: Case, stages: Stages, tmp_path: Path) -> None:
    run_case(case, stages, tmp_path / "case")


def test_names_are_unique() -> None:
    names = [case.name for case in TABLE]
    assert len(names) == len(set(names))


def test_the_document_is_the_table() -> None:
    assert PATH.read_text() == document(), "write it again: python -m tests.attacks --document"


def test_rows_run_elsewhere_are_there() -> None:
    root = PATH.parents[1]
    for name, _, where in ELSEWHERE:
        assert (root / where).is_file(), f"{name} is said to be in {where}"
