"""The benchmark takes both kinds of steps; how long they take is not tested."""

from __future__ import annotations

import json

from typer import Typer
from typer.testing import CliRunner

from client.learners import get_learner
from simulation.benchmark import main, measure


def test_both_steps_are_measured_on_the_same_images() -> None:
    learner = get_learner("cnn", input_size=32, width=8)
    phase = learner.phase("supervised")
    cost = measure(learner, phase, batch=6, physical=4, repeats=1, warm_up=0)
    assert (cost.learner, cost.phase, cost.batch, cost.size) == ("cnn", "supervised", 6, 32)
    assert cost.parameters == sum(p.numel() for p in learner.build(0).parameters())
    assert cost.plain_seconds > 0
    assert cost.private_seconds > 0


def test_the_command_prints_figures() -> None:
    app = Typer()
    app.command()(main)
    words = ["--batch", "2", "--physical", "2", "--repeats", "1", "--size", "32"]
    asked = [*words, "--learner", "ssganvit", "--json"]
    found = json.loads(CliRunner().invoke(app, asked).stdout)
    phases = ["adversarial", "self_supervised", "supervised"]
    assert [item["phase"] for item in found["steps"]] == phases
    assert all(item["ratio"] > 0 for item in found["steps"])
    shown = CliRunner().invoke(app, [*words, "--learner", "vit"]).stdout
    assert "| vit | supervised | 920,046 | 2 |" in shown
