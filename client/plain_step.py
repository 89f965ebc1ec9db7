"""One step without privacy: the phase's mean loss over a batch, differentiated and applied."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from client.learners.device import mixed
from client.learners.interface import Learner
from client.learners.phase import ODDS, Phase
from client.optimisers import free_steps, make_optimiser, parameters_of
from client.train_plan import TrainPlan


class PlainSteps:
    """Takes the steps of one round; only what the phase trains changes.

    The proximal term is tied to the weights that the module has when this is made. What does not
    travel, and what a hospital keeps for itself, is not pulled: there is nothing global to be near
    to. The pull is added to what is minimised, not to the loss that is told.

    Args:
        module: trained in place; on the device of the batches.
        learner: gives shares of the learning rate, and what is local.
        phase: gives the loss, and what it trains.
        plan: of this round.
        draws: where the phase's own random choices come from; on the processor.
        free: where those of its free parameters' steps come from; likewise.
        odds: (L,) of this hospital, added to the logits of its images' findings; None: nothing.
    """

    def __init__(
        self,
        module: nn.Module,
        learner: Learner,
        phase: Phase,
        plan: TrainPlan,
        *,
        draws: Generator,
        free: Generator,
        odds: Tensor | None = None,
    ) -> None:
        names = phase.trained(module)
        self._module = module
        self._phase = phase
        self._plan = plan
        self._odds = odds
        self.draws = draws
        self._parameters = parameters_of(module, names)
        pulled = set(phase.travels(module)) - set(learner.local_tensors(module))
        self._anchors = [
            (parameter, parameter.detach().clone())
            for parameter in parameters_of(module, [name for name in names if name in pulled])
            if plan.proximal
        ]
        self.optimiser = make_optimiser(module, learner, plan, names)
        self.free = free_steps(module, learner, phase, plan, generator=free, count=plan.batch_size)

    @property
    def optimisers(self) -> Mapping[str, Optimizer]:
        """Every optimiser whose state a checkpoint must hold."""
        if self.free is None:
            return {"main": self.optimiser}
        return {"main": self.optimiser, "free": self.free.optimiser}

    def take(self, images: Tensor, labels: Tensor, at: float) -> float:
        """Take one step and return the batch's mean loss before it.

        Args:
            images: (B, C, S, S) float32, standardised.
            labels: (B, L) int8.
            at: share of the round, [0, 1], for the learning rate.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self._plan.rate(at) * group["share"]
        self.optimiser.zero_grad(set_to_none=True)
        with mixed(images.device, wanted=self._phase.mixed):
            with torch.no_grad():
                draws = self._phase.draws(self._module, images, labels, self.draws)
                if self._odds is not None:
                    draws[ODDS] = self._odds.to(images.device).expand(len(images), -1)
            loss = self._phase.loss(self._module, images, labels, draws).mean()
        whole = loss + self._pull() if self._anchors else loss
        torch.autograd.backward(whole, inputs=self._parameters)
        if self._plan.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._plan.clip_norm)
        self.optimiser.step()
        return float(loss.detach())

    def _pull(self) -> Tensor:
        squares = [(parameter - anchor).square().sum() for parameter, anchor in self._anchors]
        return 0.5 * self._plan.proximal * torch.stack(squares).sum()
