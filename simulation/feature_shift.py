"""Feature shift: each hospital's own way of making films look.

A hospital has its own contrast, brightness curve, sharpness and noise, drawn from the seed and
its number, and the same for all its films. Labels do not change: what differs between hospitals
is P(image | finding), the third kind of heterogeneity beside labels and quantity
(Kairouz et al. 2021, arXiv:1912.04977, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ledger.errors import ConfigError
from simulation.partition import parse_scheme


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one hospital's films look.

    Attributes:
        gamma: exponent on grey in [0, 1]; above 1 is darker.
        contrast: factor about mid-grey.
        blur: Gaussian sigma as a share of the side.
        noise: standard deviation in grey levels of 0..255.
    """

    gamma: float
    contrast: float
    blur: float
    noise: float


def as_partitioned(
    pixels: NDArray[np.uint8], hospital: int, scheme: str, seed: int
) -> NDArray[np.uint8]:
    """Return a hospital's films under a partition scheme: shifted by "feature:STRENGTH" only.

    Args:
        pixels: (N, 1, S, S) uint8, the hospital's own films.
        hospital: number from 0.
        scheme: as ``simulation.partition.partition``.
        seed: fixes look and noise.

    Raises:
        ConfigError: the scheme is not valid.
    """
    name, strength = parse_scheme(scheme)
    return shift_features(pixels, hospital, strength, seed) if name == "feature" else pixels


def draw_look(hospital: int, strength: float, seed: int) -> Look:
    """Draw hospital ``hospital``'s look.

    Args:
        hospital: number from 0.
        strength: 0 (none) to 1 (films of another decade).
        seed: fixes the draw.

    Raises:
        ConfigError: the strength is out of range.
    """
    if not 0.0 <= strength <= 1.0:
        raise ConfigError(f"the feature shift must be within 0 and 1, not {strength}")
    rng = np.random.default_rng([seed, hospital, 77])
    return Look(
        gamma=float(np.exp(strength * rng.uniform(-0.7, 0.7))),
        contrast=float(np.exp(strength * rng.uniform(-0.5, 0.3))),
        blur=float(strength * rng.uniform(0.0, 0.012)),
        noise=float(strength * rng.uniform(0.0, 14.0)),
    )


def shift_features(
    pixels: NDArray[np.uint8], hospital: int, strength: float, seed: int
) -> NDArray[np.uint8]:
    """Return films as hospital ``hospital`` would have made them.

    Args:
        pixels: (N, 1, S, S) uint8.
        hospital: number from 0.
        strength: 0 (returned unchanged) to 1.
        seed: fixes look and noise.

    Raises:
        ConfigError: the strength is out of range.
    """
    look = draw_look(hospital, strength, seed)
    if strength == 0.0:
        return pixels
    rng = np.random.default_rng([seed, hospital, 78])
    curve = (np.arange(256) / 255.0) ** look.gamma
    curve = np.clip((curve - 0.5) * look.contrast + 0.5, 0.0, 1.0) * 255.0
    out = np.empty_like(pixels)
    for index in range(len(pixels)):  # one film at a time: bounded memory
        film = curve[pixels[index, 0]].astype(np.float32)
        sigma = look.blur * film.shape[0]
        if sigma > 0.1:
            film = np.asarray(cv2.GaussianBlur(film, (0, 0), sigma), dtype=np.float32)
        film = film + look.noise * rng.standard_normal(film.shape, dtype=np.float32)
        out[index, 0] = np.rint(np.clip(film, 0, 255)).astype(np.uint8)
    return out
