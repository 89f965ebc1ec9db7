"""One gradient an image: two ways to get them, with one interface.

* :class:`HookedGradients`: Opacus' hooks, which know each layer's rule. Quickest for a plain
  supervised loss, whose module is called once on the images, and for nothing else.
* :class:`FunctionalGradients`: ``torch.func`` differentiates the phase's loss of a batch of one,
  mapped over images. It takes any loss that torch differentiates, gradient penalties among them.
  Opacus' no-op mode then carries the gradients to the optimiser; it checks nothing by itself, so
  the microbatch oracle does (``client.dp_oracle``).

In the functional way the module is in evaluation mode: dropout is off, and spectral norm's vectors
move once a step (``refresh``), not within the loss. Whatever else is random was drawn beforehand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, cast

import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleNoOp
from torch import Generator, Tensor, nn
from torch.func import functional_call, grad, vmap

from client.dp_modules import check_module, check_parts, is_plain, quiet_hooks
from client.learners.phase import Draws, Phase

AT_ONCE: Final = 16
"""Images mapped together on a processor: fewer cost more, more gain little."""


class Gradients(ABC):
    """Leaves one gradient an image as ``grad_sample`` at every trained parameter.

    Attributes:
        parameters: those that are trained, by name, in the module's order.
    """

    def __init__(self, module: nn.Module, phase: Phase) -> None:
        trained = set(phase.trained(module))
        self.parameters = {n: p for n, p in module.named_parameters() if n in trained}

    @abstractmethod
    def leave(self, images: Tensor, labels: Tensor) -> None:
        """Leave the gradients of these images.

        Raises:
            UnsupportedModule: a parameter took no part in the loss.
        """

    @abstractmethod
    def refresh(self) -> None:
        """Begin a step: bring up to date what depends on the parameters alone."""

    def close(self) -> None:
        """Take everything off the parameters again."""
        for parameter in self.parameters.values():
            parameter.grad = None
            for extra in ("grad_sample", "summed_grad", "_forward_counter"):
                if hasattr(parameter, extra):
                    delattr(parameter, extra)


class HookedGradients(Gradients):
    """Per-image gradients by Opacus' hooks.

    Raises:
        UnsupportedModule: the module couples samples by construction, or a layer has no rule.
    """

    def __init__(self, module: nn.Module, phase: Phase) -> None:
        module.train()  # Opacus refuses to look at a module that is evaluating
        check_module(module)
        super().__init__(module, phase)
        self._phase = phase
        self._module = GradSampleModule(module, loss_reduction="sum")

    def leave(self, images: Tensor, labels: Tensor) -> None:
        """See the base class."""
        with quiet_hooks():
            torch.autograd.backward(self._phase.loss(self._module, images, labels, {}).sum())

    def refresh(self) -> None:
        """Do nothing: layers that would need it are refused."""

    def close(self) -> None:
        """See the base class."""
        self._module.remove_hooks()
        super().close()


class ImageLoss(nn.Module):
    """The loss of one image, without a batch dimension, as ``torch.func`` wants it."""

    def __init__(self, module: nn.Module, phase: Phase) -> None:
        super().__init__()
        self.module = module
        self._phase = phase

    def forward(self, image: Tensor, label: Tensor, draws: Draws) -> Tensor:
        """Return the loss () of an image (C, S, S), its labels (L,) and its row of each draw."""
        row = {name: drawn.unsqueeze(0) for name, drawn in draws.items()}
        return self._phase.loss(self.module, image.unsqueeze(0), label.unsqueeze(0), row)[0]


class FunctionalGradients(Gradients):
    """Per-image gradients by ``torch.func``.

    Args:
        module: trained in place; put into evaluation mode.
        phase: gives the loss and its draws.
        generator: where draws come from; on the processor. Its seed is as secret as the noise.
        at_once: images mapped together; None: ``AT_ONCE`` on a processor, all of them on a GPU.

    Raises:
        UnsupportedModule: a layer of what is trained mixes images by construction.
    """

    def __init__(
        self, module: nn.Module, phase: Phase, generator: Generator, *, at_once: int | None = None
    ) -> None:
        check_parts(module, phase)
        module.eval()
        super().__init__(module, phase)
        self._phase = phase
        self._module = module
        self._generator = generator
        self._at_once = at_once
        self._shared: Draws | None = None
        self._carrier = GradSampleModuleNoOp(ImageLoss(module, phase), loss_reduction="sum")

    def draw(self, images: Tensor, labels: Tensor) -> Draws:
        """Draw what the losses of these images need beside them; what is shared, once a step."""
        with torch.no_grad():
            if self._shared is None:
                self._shared = self._phase.share(self._module, self._generator)
            return self._phase.draws(
                self._module, images, labels, self._generator, shared=self._shared
            )

    def of(self, images: Tensor, labels: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Return each parameter's gradients (B, ...), one an image."""
        values = {name: parameter.detach() for name, parameter in self.parameters.items()}
        chunk = self._at_once
        if chunk is None:
            chunk = AT_ONCE if images.device.type == "cpu" else len(images)
        each = vmap(grad(self._loss), in_dims=(None, 0, 0, 0), chunk_size=chunk, randomness="error")
        with torch.no_grad():  # grad turns it on again within, and only for what it was given
            found = each(values, images, labels, draws)
        return cast("dict[str, Tensor]", found)

    def leave(self, images: Tensor, labels: Tensor) -> None:
        """See the base class."""
        found = self.of(images, labels, self.draw(images, labels))
        for name, parameter in self.parameters.items():
            parameter.grad_sample = found[name]  # type: ignore[attr-defined]

    def refresh(self) -> None:
        """Let spectral norm take its power iteration; forget what the last step's images shared.

        Both go by the parameters as they were released.
        """
        self._shared = None
        for layer in self._carrier.modules():
            if isinstance(layer, nn.utils.parametrize.ParametrizationList):
                layer.train()
                with torch.no_grad():
                    layer()
                layer.eval()

    def close(self) -> None:
        """See the base class."""
        self._carrier.cleanup()
        super().close()

    def _loss(self, values: dict[str, Tensor], image: Tensor, label: Tensor, row: Draws) -> Tensor:
        named = {f"_module.module.{name}": value for name, value in values.items()}
        found: Tensor = functional_call(self._carrier, named, (image, label, row))
        return found


def gradients_of(module: nn.Module, phase: Phase, generator: Generator) -> Gradients:
    """Return the way that suits a phase.

    Raises:
        UnsupportedModule: the module couples samples by construction.
    """
    if is_plain(phase):
        return HookedGradients(module, phase)
    return FunctionalGradients(module, phase, generator)
