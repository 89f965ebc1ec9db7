"""Runs every row of the attack table."""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.case import Case, run_case
from tests.attacks.document import PATH, document
from tests.attacks.runner import deal
from tests.attacks.stages import Stages
from tests.attacks.table import ELSEWHERE, NOT_BUILT, TABLE


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


@pytest.mark.parametrize(("name", "where"), [(name, where) for name, _, where in ELSEWHERE])
def test_a_row_run_elsewhere_names_a_test_that_exists(name: str, where: str) -> None:
    path, _, function = where.partition("::")
    tree = ast.parse((PATH.parents[1] / path).read_bytes())
    found = {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}
    assert function.startswith("test_"), name
    assert function in found, f"{name} is said to be run by {where}"


def test_the_document_names_every_row_once() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PATH.read_text(), re.MULTILINE)
    known = [case.name for case in TABLE] + [row[0] for row in (*ELSEWHERE, *NOT_BUILT)]
    assert rows == known


def test_rows_are_dealt_out_once_each() -> None:
    names = [case.name for case in TABLE]
    for jobs in (1, 2, 3, len(names) + 1):
        parts = deal(names, jobs)
        assert sorted(name for part in parts for name in part) == sorted(names)
        assert len(parts) <= jobs
