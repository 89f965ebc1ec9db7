"""The optimisers of one round: of what images train, and of what only generated input trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from client.learners.interface import Learner
from client.learners.modes import in_mode
from client.learners.phase import Phase
from client.train_plan import TrainPlan
from ledger.errors import NonFiniteUpdate

_SGD_MOMENTUM = 0.9


def parameters_of(module: nn.Module, names: Sequence[str]) -> list[nn.Parameter]:
    """Return the named parameters in the module's own order."""
    wanted = set(names)
    return [parameter for name, parameter in module.named_parameters() if name in wanted]


def make_optimiser(
    module: nn.Module, learner: Learner, plan: TrainPlan, names: Sequence[str]
) -> Optimizer:
    """Return the plan's optimiser of the named parameters.

    Vectors (biases, norms) are not decayed. Each group's ``share`` is what the learner says of
    its tensors' learning rate.
    """
    wanted = set(names)
    kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if name in wanted:
            decay = plan.weight_decay if parameter.ndim > 1 else 0.0
            kinds.setdefault((learner.rate_share(name), decay), []).append(parameter)
    groups: list[dict[str, object]] = [
        {"params": parameters, "weight_decay": decay, "share": share}
        for (share, decay), parameters in kinds.items()
    ]
    if plan.optimiser == "sgd":
        return SGD(groups, lr=plan.learning_rate, momentum=_SGD_MOMENTUM)
    family = AdamW if plan.optimiser == "adamw" else Adam
    return family(groups, lr=plan.learning_rate, betas=plan.betas)


class FreeSteps:
    """Trains a phase's free parameters, on generated input alone, between the other steps.

    It is given no image, so under differential privacy it computes from released parameters only
    (post-processing). Everything about it is public for that: when a step is taken, on how many
    generated images, at which rate.

    Args:
        module: trained in place.
        learner: gives shares of the learning rate.
        phase: gives the loss; it has free parameters.
        plan: gives rate, betas and clipping norm.
        generator: where everything random comes from; on the processor.
        count: generated images a step.
    """

    def __init__(
        self,
        module: nn.Module,
        learner: Learner,
        phase: Phase,
        plan: TrainPlan,
        *,
        generator: Generator,
        count: int,
    ) -> None:
        self._module = module
        self._phase = phase
        self._plan = plan
        self._count = count
        self.generator = generator
        names = phase.free(module)
        self._parameters = parameters_of(module, names)
        chosen = replace(plan, optimiser="adam", weight_decay=0.0)
        self.optimiser = make_optimiser(module, learner, chosen, names)

    def after(self, done: int, at: float) -> None:
        """Take a step if one is due after ``done`` of the other steps.

        Args:
            done: steps that images trained, this round.
            at: share of the round, [0, 1], for the learning rate.

        Raises:
            NonFiniteUpdate: the loss became NaN or infinite; the module is to be thrown away.
        """
        if done % self._phase.free_every:
            return
        with in_mode(self._module, training=True):
            self._step(at)

    def _step(self, at: float) -> None:
        loss = self._phase.free_loss(self._module, self._count, self.generator)
        if not math.isfinite(float(loss.detach())):
            raise NonFiniteUpdate("training diverged: the loss of generated images is not finite")
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            loss, self._parameters, allow_unused=True
        )
        for parameter, gradient in zip(self._parameters, found, strict=True):
            parameter.grad = gradient
        if self._plan.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._plan.clip_norm)
        for group in self.optimiser.param_groups:
            group["lr"] = self._plan.free_rate_at(at) * group["share"]
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


def free_steps(
    module: nn.Module,
    learner: Learner,
    phase: Phase,
    plan: TrainPlan,
    *,
    generator: Generator,
    count: int,
) -> FreeSteps | None:
    """Return the steps of a phase's free parameters; None where it has none."""
    if not phase.free(module):
        return None
    return FreeSteps(module, learner, phase, plan, generator=generator, count=count)
