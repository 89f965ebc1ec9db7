"""The figures of loading: what they are over, and where they go."""

from __future__ import annotations

import mmap
import sys
import time
from pathlib import Path

import pytest

from client.data.nih import load_nih
from ledger.errors import ConfigError
from simulation import data_figures
from simulation.data_figures import BEGIN, END, Memory, main, own_memory, repeated
from simulation.phantoms import write_phantoms


def test_a_tree_repeated_has_names_of_its_own(tmp_path: Path) -> None:
    cohort = load_nih(write_phantoms(tmp_path / "p", 4, 0, size=32).root)
    many = repeated(cohort, 3 * len(cohort) - 1)
    assert len(many) == 3 * len(cohort) - 1
    assert len({r.image_id for r in many.records}) == len(many)
    assert many.records[len(cohort)].image == cohort.records[0].image


def test_memory_of_its_own_is_seen() -> None:
    memory, before = Memory(), own_memory()
    # Pages of its own: an array might be given memory that this process had before.
    with mmap.mmap(-1, 40 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        with memory.watched():
            block.write(b"\1" * (40 << 20))
            time.sleep(0.3)
        assert own_memory() > before + 30
    assert memory.most > 30


def test_the_command_measures_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_phantoms(tmp_path / "p", 6, 0, size=64).root
    monkeypatch.setattr(data_figures, "_training", lambda name, _pixels: f"{name}: not here")
    page = tmp_path / "page.md"
    page.write_text(f"a\n{BEGIN}\n{END}\nb\n")
    asked = ["x", "--data", str(root), "--images", "40", "--write", str(page)]
    monkeypatch.setattr(sys, "argv", asked)
    main()
    text = page.read_text()
    assert "| 40 images (the tree's, repeated) into the cache |" in text
    assert "nothing wrong" in text
    assert text.endswith(f"{END}\nb\n")
    assert "PNG to 64 px" in capsys.readouterr().out
    page.write_text("none")
    with pytest.raises(ConfigError, match="lacks the markers"):
        main()
