"""The device is chosen, batches come in order, and the check for a GPU needs little installed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from client.learners.device import VARIABLE, ahead, choose, exact, mixed, pinned, placed
from ledger.errors import ConfigError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_the_processor_is_used_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose() == choose("auto") == choose("cpu") == CPU
    monkeypatch.setenv(VARIABLE, "cuda")
    with pytest.raises(ConfigError, match="no GPU"):
        choose()
    monkeypatch.setenv(VARIABLE, "abacus")
    with pytest.raises(ConfigError, match="abacus"):
        choose()


def test_a_gpu_is_taken_unless_another_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert choose() == torch.device("cuda", 1)
    monkeypatch.setenv(VARIABLE, "cpu")
    assert choose() == CPU


def test_nothing_is_done_to_a_module_or_batch_for_the_processor() -> None:
    module, batch = nn.Conv2d(1, 2, 3), torch.zeros(2)
    with placed(module, CPU), mixed(CPU, wanted=True):
        assert not torch.is_autocast_enabled("cpu")
        assert module(torch.zeros(1, 1, 4, 4)).dtype == torch.float32
    assert pinned(batch, CPU) is batch


def test_scores_and_the_oracle_keep_all_bits_of_float32_on_a_gpu() -> None:
    before = torch.backends.cudnn.allow_tf32
    with exact(CPU):
        assert torch.backends.cudnn.allow_tf32 is before
    with exact(GPU):
        assert torch.backends.cudnn.allow_tf32 is False
    assert torch.backends.cudnn.allow_tf32 is before


def test_batches_are_fetched_ahead_of_a_gpu_in_order() -> None:
    threads: set[str] = set()

    def fetch(item: int) -> int:
        threads.add(threading.current_thread().name)
        return item * item

    assert list(ahead(range(20), fetch, GPU)) == [n * n for n in range(20)]
    assert all(name.startswith("fetch") for name in threads)
    threads.clear()
    assert list(ahead(range(3), fetch, CPU)) == [0, 1, 4]
    assert threads == {threading.current_thread().name}


def test_a_failed_fetch_is_told_and_the_threads_end() -> None:
    def fetch(item: int) -> int:
        return 1 // (item - 3)

    with pytest.raises(ZeroDivisionError):
        list(ahead(range(100), fetch, GPU))
    assert not any(thread.name.startswith("fetch") for thread in threading.enumerate())


HIDING = """
import sys
class Hiding:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        hidden = name.split(".")[0] in {words}
        return None if hidden else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
from client.gpu_check import main
sys.exit(main(sys.argv[1:]))
"""
ABSENT = {
    "coincurve", "cryptography", "cv2", "dp_accounting", "eth_account", "eth_tester",
    "flwr", "matplotlib", "pandas", "pydicom", "rich", "sklearn", "typer", "web3",
}  # fmt: skip


def test_the_gpu_check_needs_torch_timm_and_opacus_only(tmp_path: Path) -> None:
    """All phases of both learners, on the processor, with the project's other libraries absent."""
    path = tmp_path / "figures.json"
    words = ["--tiny", "--device", "cpu", "--batch", "2", "--steps", "1", "--json", str(path)]
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", HIDING.format(words=ABSENT), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # beside other tests, more are slower
        capture_output=True,
        text=True,
        check=False,
    )
    assert path.exists(), done.stderr
    found = json.loads(path.read_text())
    assert done.returncode == (0 if found["fell"] else 1)
    assert found["noise"] == "OrdinaryNoise"
    kinds = [(each["learner"], each["phase"], each["private"]) for each in found["figures"]]
    phases = [("ssganvit", n) for n in ("adversarial", "self_supervised", "supervised")]
    assert kinds == [(*p, private) for p in [*phases, ("vit", "supervised")] for private in (0, 1)]
    assert all(math.isfinite(each["after"]) for each in found["figures"])
    assert all(each["images_per_second"] > 0 for each in found["figures"])
    assert "| ssganvit | adversarial | yes | 32 | 2 |" in done.stdout
