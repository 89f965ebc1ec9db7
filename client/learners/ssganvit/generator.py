"""The generator: noise, and the findings it shall show, to a small radiograph.

Eight convolutional layers with batch norm and ReLU, the last with Tanh, from a latent vector of
100 (the paper's figures; the plan is that of DCGAN, Radford et al., ICLR 2016). It never sees a
real image: its parameters learn from its critic's opinion of noise alone, so its batch norm mixes
no patients, and what it makes of privately trained weights costs no privacy (post-processing).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYERS = 8
_MOST = 8
"""Channels are at most this many times the width."""
_DEVIATION = 0.02
_CALIBRATION = 64


class NoiseNorm(nn.Module):
    """Batch norm for activations that stem from noise only.

    It says itself whose statistics it takes: ``settled`` uses the running ones, so that an image
    depends on its own noise alone; otherwise the batch's, which also move the running ones. It is
    no ``BatchNorm2d``, for it has no count of batches and must not be mistaken for one that
    patients go through.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, features: Tensor, *, settled: bool) -> Tensor:
        """Normalise (B, C, H, W)."""
        return functional.batch_norm(
            features,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=not settled,
            momentum=self.momentum,
        )


class Generator(nn.Module):
    """Noise (B, latent) and findings (B, L) to images (B, 1, size, size) in (-1, 1).

    Args:
        size: side of an image: 4, 5, 6 or 7 times a power of two, at most 448.
        latent: length of the noise.
        width: channels before the last layer.
        labels: number of findings L it is told; 0: none.
    """

    def __init__(self, *, size: int, latent: int, width: int, labels: int) -> None:
        super().__init__()
        start, doublings = halve(size)
        self.latent, self.labels, self.size = latent, labels, size
        refining = LAYERS - 2 - doublings  # layers that keep the side, at the small sides
        wide = width * min(2**doublings, _MOST)
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent + labels, wide, start, bias=False)]
        for step in range(doublings + 1):
            if step < refining:
                layers.append(nn.Conv2d(wide, wide, 3, padding=1, bias=False))
            if step < doublings:
                narrow = width * min(2 ** (doublings - step - 1), _MOST)
                layers.append(nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False))
                wide = narrow
        while len(layers) < LAYERS - 1:  # the smallest images have fewer sides than layers
            layers.append(nn.Conv2d(wide, wide, 3, padding=1, bias=False))
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(NoiseNorm(_out(layer)) for layer in layers)
        self.last = nn.Conv2d(wide, 1, 3, padding=1)
        for layer in (*layers, self.last):
            nn.init.normal_(layer.weight, std=_DEVIATION)  # type: ignore[arg-type]
        self._calibrate()

    def forward(self, noise: Tensor, findings: Tensor, *, settled: bool) -> Tensor:
        """Make images.

        Args:
            noise: (B, latent), standard normal.
            findings: (B, L) of 0 and 1; not looked at by a generator that is told none.
            settled: each image from its own noise alone (see ``NoiseNorm``).
        """
        told = findings.to(noise.dtype) * 2 - 1
        given = torch.cat([noise, told], dim=1) if self.labels else noise
        features = given[:, :, None, None]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            features = functional.relu(norm(layer(features), settled=settled))
        return torch.tanh(self.last(features))

    def _calibrate(self) -> None:
        """Start the running statistics at those of the initial weights."""
        for norm in self.norms:
            norm.momentum = 1.0  # type: ignore[assignment]
        with torch.no_grad():
            noise = torch.randn(_CALIBRATION, self.latent)
            findings = torch.zeros(_CALIBRATION, self.labels)
            self(noise, findings, settled=False)
        for norm in self.norms:
            norm.momentum = 0.1  # type: ignore[assignment]


def halve(size: int) -> tuple[int, int]:
    """Return (start, doublings) with ``size == start * 2**doublings`` and start from 4 to 7.

    Returns (0, 0) where there is none with 1 to 6 doublings.
    """
    doublings = 0
    while size > 7 and size % 2 == 0:
        size, doublings = size // 2, doublings + 1
    return (size, doublings) if 4 <= size <= 7 and 1 <= doublings <= LAYERS - 2 else (0, 0)


def _out(layer: nn.Module) -> int:
    return int(layer.out_channels)  # type: ignore[arg-type]  # both convolutions have it
