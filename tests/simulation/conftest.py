"""Phantoms, and a real run on the in-process chain of a learner small enough for it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar

import pytest
from torch import nn

from client.data.nih import load_nih
from client.data.preprocess import load_pixels
from client.data.records import FINDINGS
from client.learners import module_to_model, registry
from client.learners.interface import Learner
from ledger.canonical import canonical_json, parse_json
from ledger.manifest import Manifest
from simulation.phantoms import write_phantoms
from simulation.testset import write_test_set
from tests.ledger.audited_run import Federation


@dataclass(frozen=True, kw_only=True)
class Tiny(Learner):
    """One convolution, whose 4 x 4 cells the head reads one by one."""

    name: ClassVar[str] = "tiny"

    input_size: int = 8

    def network(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 2, 2, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * (self.input_size // 2) ** 2, self.outputs),
        )

    def head(self, module: nn.Module) -> nn.Linear:
        head = module.get_submodule("3")
        assert isinstance(head, nn.Linear)
        return head


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("tiny", f"{__name__}:Tiny", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantoms(folder, 30, 0, size=32, test_share=0.7)
    return folder


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Return the folder of one audited round that ends in a model of the tiny learner."""
    return play(tmp_path_factory.mktemp("played") / "run", data, rounds=1)


def play(folder: Path, data: Path, *, rounds: int) -> Path:
    """Play rounds of the tiny learner on the in-process chain, and write their run's folder."""
    learner = Tiny()
    module = learner.build(0)
    model = module_to_model(module, learner.shared(module))
    federation = Federation(folder, model=model)
    finals = []
    for _ in range(rounds):
        federation.play()
        finals.append(federation.ledger.model().hex())
    federation.write_run()
    record = parse_json((folder / "run.json").read_bytes(), 1 << 20)
    assert isinstance(record, dict)
    record |= {
        "learner": learner.describe(),
        "manifest": Manifest.of_model(model).to_json(),
        "initial_model": federation.rules.initial_model.hex(),
        "findings": list(FINDINGS),
    }
    (folder / "run.json").write_bytes(canonical_json(record))
    lines = (f"{number},{final},SUM_VERIFIED" for number, final in enumerate(finals, start=1))
    (folder / "metrics.csv").write_text("\n".join(["round,model,outcome", *lines, ""]))
    cohort = load_nih(data, "test")
    write_test_set(folder / "test.npz", cohort, load_pixels(cohort, 8))
    return folder


@pytest.fixture
def run(played: Path, tmp_path: Path, installed: None) -> Path:
    """Return a copy of the audited run, whose learner is an installed package's."""
    return Path(shutil.copytree(played, tmp_path / "run"))
