"""Is the loader ever the bottleneck, and does memory stay bounded? Figures, by a command.

    python -m simulation.data_figures --data NIH_FOLDER [--images 112120] [--write docs/data.md]

Rates are per second of processor time of one core, so that other work on the machine does not
count; the rate of random batches is by the clock, as it mostly waits for memory. Memory is the
most that was the process's own while it worked (anonymous pages), without the mapped file, which
the system may take back.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.data.nih import check_nih, load_nih
from client.data.preprocess import load_pixels
from client.data.records import Cohort
from client.learners import get_learner
from client.train import TrainPlan, train
from ledger.console import out, progress
from ledger.errors import ConfigError
from ledger.files import atomic_write

SIZE = 64
BATCH = 64
SAMPLE = 2000
BEGIN, END = "<!-- data figures -->", "<!-- end of data figures -->"
Row = tuple[str, str]


class Memory:
    """The most anonymous memory of this process while watched, in MiB over what it began with."""

    def __init__(self) -> None:
        self.most = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look ten times a second until the block is left."""
        before, done = own_memory(), threading.Event()

        def look() -> None:
            while not done.wait(0.1):
                self.most = max(self.most, own_memory() - before)

        looker = threading.Thread(target=look, daemon=True)
        looker.start()
        try:
            yield
        finally:
            done.set()
            looker.join()


def own_memory() -> float:
    """Return the process's anonymous resident memory in MiB (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise ConfigError("this system does not tell a process's own memory")


def repeated(cohort: Cohort, images: int) -> Cohort:
    """Return a cohort of so many records, the given ones again and again under other names."""
    rounds = -(-images // len(cohort))
    records = tuple(
        replace(record, image_id=f"{number}:{record.image_id}")
        for number in range(rounds)
        for record in cohort.records
    )
    return Cohort(records[:images], cohort.vocabulary, cohort.source)


def measure(root: Path, images: int, tell: Callable[[int, int], None] | None = None) -> list[Row]:
    """Return rows of (what, figure) for an NIH tree.

    Args:
        root: the tree.
        images: how many the large run holds (the tree's own, repeated).
        tell: progress of the large run.

    Raises:
        DataError: the tree cannot be used.
    """
    cohort = load_nih(root)
    with tempfile.TemporaryDirectory() as scratch:  # first, while nothing else was ever in memory
        rows = _large(repeated(cohort, images), Path(scratch), tell)
    begun = time.process_time()
    report = check_nih(root)
    spent = time.process_time() - begun
    checked = f"{'nothing wrong' if report.ok else 'faults'}; {len(cohort) / spent:,.0f} images"
    rows.append((f"check {len(cohort):,} images, {len(cohort.patients()):,} patients", checked))
    chosen = np.random.default_rng(0).permutation(len(cohort))[:SAMPLE]
    begun = time.process_time()
    pixels = load_pixels(cohort.select(np.sort(chosen)), SIZE)
    rows.append((f"PNG to {SIZE} px", f"{len(pixels) / (time.process_time() - begun):,.0f} images"))
    rows += [(f"training `{name}` on them", _training(name, pixels)) for name in ("cnn", "vit")]
    return rows


def _training(name: str, pixels: NDArray[np.uint8]) -> str:
    learner = get_learner(name, input_size=SIZE)
    module = learner.build(0)
    labels = np.zeros((512, learner.labels), dtype=np.int8)
    begun = time.process_time()
    train(module, learner, pixels[np.arange(512) % len(pixels)], labels, TrainPlan(), seed=0)
    return f"{512 / (time.process_time() - begun):,.0f} images"


def _large(cohort: Cohort, scratch: Path, tell: Callable[[int, int], None] | None) -> list[Row]:
    memory = Memory()
    begun, clock = time.process_time(), time.monotonic()
    with memory.watched():
        pixels = load_pixels(cohort, SIZE, scratch, tell)
    spent, waited = time.process_time() - begun, time.monotonic() - clock
    rate = f"{len(cohort) / spent:,.0f} images; {waited:,.0f} s by the clock"
    held = f"{rate}; {memory.most:,.0f} MiB of its own memory"
    rng, clock = np.random.default_rng(0), time.monotonic()
    for _ in range(300):
        np.array(pixels[rng.integers(0, len(pixels), BATCH)])
    rate = f"{300 * BATCH / (time.monotonic() - clock):,.0f} images (by the clock)"
    return [
        (f"{len(cohort):,} images (the tree's, repeated) into the cache", held),
        (f"random batches of {BATCH} from that cache", rate),
    ]


def main() -> None:
    """Print the figures, or put them between the markers of a document."""
    parser = argparse.ArgumentParser(prog="simulation.data_figures", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="an NIH tree")
    parser.add_argument("--images", type=int, default=112_120)
    parser.add_argument("--write", type=Path, help="a document with the two markers")
    asked = parser.parse_args()
    with progress() as bar:
        task = bar.add_task("images", total=None)
        rows = measure(
            asked.data,
            asked.images,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    text = "\n".join(["| what | figure |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])
    out.print(text, markup=False, soft_wrap=True)
    if asked.write:
        replace_between(asked.write, BEGIN, END, text)


def replace_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two markers of a document.

    Raises:
        ConfigError: it lacks them.
    """
    before, first, rest = page.read_text(encoding="utf-8").partition(begin)
    _old, last, after = rest.partition(end)
    if not first or not last:
        raise ConfigError(f"{page} lacks the markers {begin} and {end}")
    atomic_write(page, f"{before}{begin}\n{text}\n{end}{after}".encode())


if __name__ == "__main__":
    main()
