"""Train the initial model on public radiographs, before any hospital takes part.

Public data costs no epsilon: whoever declares a folder public says that nobody's privacy is at
stake in it. Phantoms are public by construction. The result is the initial model whose digest the
contract is deployed with, so everybody starts from it and can see that they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from client.data.records import FINDINGS
from client.data.sources import has_list, load_sources
from client.data.vocabulary import project
from client.learners.interface import Learner
from client.train import TrainPlan, train
from ledger.errors import ConfigError
from simulation.cohorts import films_of
from simulation.phantoms import write_phantoms
from simulation.progress import Steps
from simulation.settings import PHANTOMS, Settings

_SEED_SHIFT = 1_000_003
"""Public phantoms are other patients than the federation's own."""


def check_public(settings: Settings) -> None:
    """Refuse to take the hospitals' own data for public, or to train on what is scored on.

    Raises:
        ConfigError: the warm start's folder is one of the run's data folders, or its test folder
            without lists that keep the two apart.
    """
    if not settings.warm_start or settings.warm_start == PHANTOMS:
        return
    public = Path(settings.warm_start).resolve()
    own = [] if settings.data == PHANTOMS else settings.data.split(",")
    if any(_overlap(Path(part.strip()).resolve(), public) for part in own):
        raise ConfigError(
            f"the warm start {settings.warm_start} is the hospitals' own data: what is trained"
            " on before the rounds must be public"
        )
    # A source without lists is taken whole, to train on and to score on.
    if (
        settings.test
        and _overlap(Path(settings.test).resolve(), public)
        and not (has_list(public, "train") and has_list(public, "test"))
    ):
        raise ConfigError(
            f"the warm start {settings.warm_start} would train on the films that the model is"
            " scored on: it has no train and test list"
        )


def _overlap(one: Path, other: Path) -> bool:
    return one == other or one in other.parents or other in one.parents


def warm_start(
    settings: Settings,
    learner: Learner,
    module: nn.Module,
    scratch: Path,
    steps: Steps,
    findings: Sequence[str] = FINDINGS,
) -> dict[str, object] | None:
    """Train ``module`` in place on public data; what was done, or None where nothing was asked.

    Raises:
        DataError: the public folder cannot be used.
    """
    if not settings.warm_start:
        return None
    root = Path(settings.warm_start)
    if settings.warm_start == PHANTOMS:
        root = scratch / "public-phantoms"
        write_phantoms(
            root, settings.patients, settings.seed + _SEED_SHIFT, size=settings.size, test_share=0.0
        )
    cohort = project(load_sources([root], "train", policy=settings.uncertain), findings)
    plan = TrainPlan(
        epochs=settings.warm_epochs,
        learning_rate=settings.warm_learning_rate,
    )
    bias = learner.head(module).bias.detach().clone()
    with steps.bar("Starting from public radiographs", settings.warm_epochs) as advance:
        seen = -1

        def progress(done: int, total: int) -> None:
            nonlocal seen
            epoch = done * settings.warm_epochs // total
            if epoch > max(seen, 0):
                advance()
            seen = epoch

        outcome = train(
            module,
            learner,
            films_of(settings, cohort),
            cohort.label_matrix(),
            plan,
            seed=settings.seed,
            progress=progress,
        )
    # How common a finding is among public films says nothing of the hospitals: the output bias goes
    # back to where it began, the published label shares.
    with torch.no_grad():
        learner.head(module).bias.copy_(bias)
    return {
        "source": settings.warm_start,
        "cohort": cohort.digest().hex(),
        "images": len(cohort),
        "epochs": settings.warm_epochs,
        "loss": outcome.loss,
    }
