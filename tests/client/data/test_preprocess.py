"""Pixels: shapes, order, the cache's key, crashes and two processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.data import cache as cache_module
from client.data.nih import load_nih
from client.data.pipeline import Preprocessing, resize
from client.data.preprocess import load_pixels, normalise
from ledger.errors import ConfigError, DataError
from tests.client.data.trees import row, write_tree

NAMES = tuple(f"{number:08d}_000.png" for number in range(1, 8))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "nih", [row(name, i) for i, name in enumerate(NAMES)])


def entries(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir())


def test_pixels_are_in_the_cohorts_order(tree: Path) -> None:
    cohort = load_nih(tree)
    pixels = load_pixels(cohort, 16)
    assert pixels.shape == (7, 1, 16, 16)
    for index, record in enumerate(cohort.records):
        with Image.open(record.image) as image:
            assert np.array_equal(pixels[index, 0], np.asarray(image))
    turned = load_pixels(cohort.select([6, 0]), 16)
    assert np.array_equal(turned, pixels[[6, 0]])


def test_shrinking_averages() -> None:
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4) * 10
    assert resize(pixels, 2).tolist() == [[25, 45], [105, 125]]
    assert resize(pixels, 9).shape == (9, 9)
    assert resize(pixels[:, :3], 4).shape == (4, 4)


def test_normalise() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), dtype=np.uint8)
    pixels[2] = 7
    out = normalise(pixels)
    assert out.dtype == np.float32
    assert np.allclose(out.mean(axis=(-2, -1)), 0, atol=1e-5)
    assert np.allclose(out[:2].std(axis=(-2, -1)), 1, atol=1e-4)
    assert not out[2].any(), "a blank image becomes zeros, not NaN"


def test_cache_gives_the_same_pixels_and_is_not_rebuilt(tree: Path, tmp_path: Path) -> None:
    cohort, folder = load_nih(tree), tmp_path / "cache"
    calls: list[int] = []
    first = load_pixels(cohort, 16, folder, progress=lambda done, total: calls.append(done))
    assert calls == [7]
    second = load_pixels(cohort, 16, folder, progress=lambda done, total: calls.append(done))
    assert calls == [7], "the second call reads the entry"
    plain = load_pixels(cohort, 16)
    assert np.array_equal(first, plain)
    assert np.array_equal(second, plain)
    second[0] = 0  # copy on write
    assert np.array_equal(load_pixels(cohort, 16, folder), plain)


def test_key_follows_data_and_configuration(tree: Path, tmp_path: Path) -> None:
    cohort, folder = load_nih(tree), tmp_path / "cache"
    load_pixels(cohort, 16, folder)
    load_pixels(cohort, 12, folder)
    load_pixels(cohort.select([0, 1]), 16, folder)
    assert len(entries(folder)) == 3
    Image.fromarray(np.full((20, 20), 9, dtype=np.uint8)).save(cohort.records[0].image)
    assert load_pixels(cohort, 16, folder)[0].max() == 9, "an edited image is seen"
    assert len(entries(folder)) == 4


def test_failure_leaves_no_entry(tree: Path, tmp_path: Path) -> None:
    cohort, folder = load_nih(tree), tmp_path / "cache"
    cohort.records[4].image.write_bytes(b"damaged")
    with pytest.raises(DataError, match=NAMES[4]):
        load_pixels(cohort, 16, folder)
    assert entries(folder) == []


def test_crash_half_way_is_built_anew(tree: Path, tmp_path: Path) -> None:
    cohort, folder = load_nih(tree), tmp_path / "cache"
    key = cache_module.cache_key(cohort, Preprocessing(size=16).config())
    draft = folder / f".{key}-dead"
    draft.mkdir(parents=True)
    (draft / "pixels.npy").write_bytes(b"half")
    torn = folder / key
    torn.mkdir()
    (torn / "pixels.npy").write_bytes(b"\x93NUMPY torn")
    assert np.array_equal(load_pixels(cohort, 16, folder), load_pixels(cohort, 16))
    assert not draft.exists()


_RACER = """
import sys
from pathlib import Path
from client.data.nih import load_nih
from client.data.preprocess import load_pixels
calls = []
pixels = load_pixels(load_nih(Path(sys.argv[1])), 16, Path(sys.argv[2]),
                     progress=lambda done, total: calls.append(done))
print(len(calls), int(pixels.sum()))
"""


def test_two_processes_build_once(tree: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _RACER, str(tree), str(tmp_path / "cache")]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
        for _ in range(2)
    ]
    outcomes = [process.communicate(timeout=120)[0].split() for process in running]
    assert sorted(calls for calls, _ in outcomes) == ["0", "1"]
    assert len({total for _, total in outcomes}) == 1


def test_description_holds_the_digests(tree: Path, tmp_path: Path) -> None:
    cohort, folder = load_nih(tree), tmp_path / "cache"
    config = Preprocessing(size=16).config()
    with pytest.raises(DataError, match="no such entry"):
        cache_module.describe(folder, cohort, config)
    load_pixels(cohort, 16, folder)
    about = cache_module.describe(folder, cohort, config)
    assert about["cohort_digest"] == cohort.digest().hex()
    assert about["shape"] == [7, 1, 16, 16]


@pytest.mark.parametrize("size", [0, 7, 4096])
def test_size_out_of_range(tree: Path, size: int) -> None:
    with pytest.raises(ConfigError, match="image size"):
        load_pixels(load_nih(tree), size)


_VICTIM = """
import sys, time
from pathlib import Path
from client.data.nih import load_nih
from client.data.preprocess import load_pixels
def stall(done, total):
    print("half way", flush=True)
    time.sleep(600)
load_pixels(load_nih(Path(sys.argv[1])), 16, Path(sys.argv[2]), progress=stall)
"""


def test_a_builder_killed_half_way_leaves_nothing_to_trust(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    command = [sys.executable, "-c", _VICTIM, str(tree), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:  # noqa: S603
        assert victim.stdout is not None
        assert victim.stdout.readline() == "half way\n"
        victim.kill()
    assert [name for name in entries(folder) if not name.startswith(".")] == []
    cohort = load_nih(tree)
    assert np.array_equal(load_pixels(cohort, 16, folder), load_pixels(cohort, 16))
    assert len(entries(folder)) == 1, "the dead builder's draft is swept away"
