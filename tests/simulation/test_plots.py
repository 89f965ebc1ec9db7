"""The curve of a run: drawn from its files, the same bytes for the same figures."""

from __future__ import annotations

from pathlib import Path

from simulation.plots import plot_rounds


def test_a_curve_is_drawn_from_the_run_s_own_files(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("round,metric_auc\n1,0.55\n2,\n3,0.61\n")
    (tmp_path / "central.csv").write_text("round,macro_auc\n1,0.52\n2,0.57\n3,0.6\n")
    path = plot_rounds(tmp_path)
    assert path is not None
    first = path.read_bytes()
    assert b"macro AUC" in first
    plot_rounds(tmp_path)
    assert path.read_bytes() == first


def test_phases_are_shaded_and_named(tmp_path: Path) -> None:
    lines = ["round,phase,metric_auc", "1,adversarial,", "2,adversarial,", "3,supervised,0.55"]
    (tmp_path / "metrics.csv").write_text("\n".join([*lines, "4,supervised,0.6"]) + "\n")
    path = plot_rounds(tmp_path)
    assert path is not None
    picture = path.read_bytes()
    assert picture.count(b"adversarial") == picture.count(b"supervised") == 1


def test_without_scores_there_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("round,outcome\n1,SUM_VERIFIED\n")
    assert plot_rounds(tmp_path) is None
    assert [item.name for item in tmp_path.iterdir()] == ["metrics.csv"]
