"""Does training run on this machine's device, and how fast: every phase, private and not.

``make gpu-check``, or ``python -m client.gpu_check`` where only torch, timm and opacus are
installed (with what they bring: NumPy, SciPy, torchvision, safetensors). Prints images per second,
peak memory and the fall of the loss (``client.gpu_measure``); ends with 1 where a loss did not.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from client.gpu_measure import Setup, measure, noise_source
from client.learners import get_learner
from client.learners.device import AUTO, CPU, CUDA, choose
from ledger.files import atomic_write

_TINY: dict[str, dict[str, Any]] = {
    "vit": {"width": 32, "depth": 1, "heads": 2},
    "ssganvit": {"preset": "demo"},
}
"""Sizes at which everything runs in seconds on a processor."""


def device_name(device: torch.device) -> str:
    """Return what the device calls itself."""
    if device.type == CUDA:
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} processor, {torch.get_num_threads()} threads"


def measure_all(
    setup: Setup, learners: Sequence[str], *, size: int | None = None, tiny: bool = False
) -> dict[str, Any]:
    """Return every figure, and what they were measured on, as JSON values.

    Args:
        setup: what to measure.
        learners: their names.
        size: side of the images; None: each learner's own.
        tiny: small networks.
    """
    figures = []
    for name in learners:
        small = {"input_size": 32, **_TINY.get(name, {})} if tiny else {}
        learner = get_learner(name, **{**small, **({} if size is None else {"input_size": size})})
        for phase in (learner.phase(each) for each in learner.phases):
            figures += [measure(learner, phase, setup, private=p) for p in (False, True)]
    device = choose(setup.device)
    return {
        "device": device_name(device),
        "kind": device.type,
        "torch": torch.__version__,
        "noise": type(noise_source()).__name__,
        "fell": all(figure.fell for figure in figures),
        "figures": [{**asdict(figure), "fell": figure.fell} for figure in figures],
    }


def table(found: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown."""
    lines = [
        f"{found['device']}, torch {found['torch']}, noise by {found['noise']}",
        "",
        "| learner | phase | private | side | batch | images/s | peak MiB | loss before | after |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found["figures"]:
        said = "yes" if each["private"] else "no"
        lines.append(
            f"| {each['learner']} | {each['phase']} | {said} | {each['size']} | {each['batch']} |"
            f" {each['images_per_second']:.1f} | {each['memory_mib']:.0f} | {each['before']:.4f} |"
            f" {each['after']:.4f}{'' if each['fell'] else ' (did not fall)'} |"
        )
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON; 1 where a loss did not fall."""
    parser = argparse.ArgumentParser(prog="gpu-check", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batch", type=int, default=Setup.batch, help="images a step")
    parser.add_argument("--steps", type=int, default=Setup.steps, help="steps that count")
    parser.add_argument("--size", type=int, help="side of the images (the learner's own)")
    parser.add_argument("--tiny", action="store_true", help="small networks, for a processor")
    parser.add_argument("--device", choices=(AUTO, CPU, CUDA), default=AUTO)
    parser.add_argument("--learner", action="append", help="again for each (ssganvit and vit)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args(words)
    setup = Setup(batch=asked.batch, steps=asked.steps, device=asked.device)
    names = asked.learner or ("ssganvit", "vit")
    found = measure_all(setup, names, size=asked.size, tiny=asked.tiny)
    sys.stdout.write(table(found) + "\n")
    if asked.json is not None:
        atomic_write(asked.json, json.dumps(found, indent=1).encode() + b"\n")
    return 0 if found["fell"] else 1


if __name__ == "__main__":
    sys.exit(main())
