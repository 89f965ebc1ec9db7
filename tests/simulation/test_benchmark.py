"""The benchmark takes both kinds of steps; how long they take is not tested."""

from __future__ import annotations

import json

from typer import Typer
from typer.testing import CliRunner

from client.learners import get_learner
from simulation.benchmark import main, measure


def test_both_steps_are_measured_on_the_same_images() -> None:
    learner = get_learner("cnn", input_size=32, width=8)
    cost = measure(learner, batch=6, physical=4, repeats=1, warm_up=0)
    assert (cost.learner, cost.batch, cost.size) == ("cnn", 6, 32)
    assert cost.parameters == sum(p.numel() for p in learner.build(0).parameters())
    assert cost.plain_seconds > 0
    assert cost.private_seconds > 0


def test_the_command_prints_figures() -> None:
    app = Typer()
    app.command()(main)
    words = ["--batch", "2", "--physical", "2", "--repeats", "1", "--size", "32"]
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert [item["learner"] for item in found["steps"]] == ["vit", "cnn"]
    assert all(item["ratio"] > 0 for item in found["steps"])
    assert "| vit | 920,046 |" in CliRunner().invoke(app, words).stdout
