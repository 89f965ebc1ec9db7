"""The preprocessing of one film, step by step (SS-GAN-ViT paper, 4.A.1), each step switchable.

    CLAHE          contrast-limited adaptive equalisation, clip 2.0 on an 8 x 8 grid
    blur           Gaussian 5 x 5
    mask           non-diagnostic anatomy, burnt-in text and devices (``client.data.masking``)
    resize         to size x size: averaging when shrinking, linear when enlarging
    normalise      each image to zero mean and unit variance (``preprocess.normalise``, when read)

The sizes are meant for films of about 1024 px, so the first three act at native resolution and
"auto" leaves them out where a film's shorter side is under ``min_native`` (256) pixels. The mask
is a heuristic: it is off unless asked for. A film
that ``data prepare`` wrote says so in its own bytes and is not processed twice.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

import cv2
import numpy as np

from client.data.decode import decode
from client.data.images import Grey
from client.data.masking import mask_non_diagnostic
from ledger.canonical import canonical_json, tagged_digest
from ledger.errors import ConfigError

Switch = Literal["auto", "on", "off"]
MIN_SIZE, MAX_SIZE = 8, 2048
PROCESSED = b"thoracle\0preprocessed"
"""The text chunk in the head of every PNG that ``data prepare`` writes."""
HEAD = 256
"""Bytes of a file that hold that chunk, if there is one."""
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What is done to every film; its digest names the cache entry and the prepared set.

    Attributes:
        size: side of the result, 8 to 2048 pixels.
        clahe, blur, mask: "on", "off", or "auto" (on where the film is large enough).
        clahe_clip: contrast limit, above 0 to 40.
        clahe_grid: tiles a side, 1 to 64.
        blur_kernel: side of the Gaussian, odd, 1 to 31.
        min_native: shorter side in pixels from which "auto" is on.

    Raises:
        ConfigError: a value is out of range.
    """

    size: int = 64
    clahe: Switch = "auto"
    blur: Switch = "auto"
    mask: Switch = "off"
    clahe_clip: float = 2.0
    clahe_grid: int = 8
    blur_kernel: int = 5
    min_native: int = 256

    def __post_init__(self) -> None:
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise ConfigError(f"the image size must be {MIN_SIZE} to {MAX_SIZE}, not {self.size}")
        for name in ("clahe", "blur", "mask"):
            if getattr(self, name) not in get_args(Switch):
                raise ConfigError(f"{name} is on, off or auto, not {getattr(self, name)!r}")
        if not 0 < self.clahe_clip <= 40 or not 1 <= self.clahe_grid <= 64:
            raise ConfigError("CLAHE needs a clip above 0 to 40 and a grid of 1 to 64")
        if self.blur_kernel % 2 == 0 or not 1 <= self.blur_kernel <= 31:
            raise ConfigError(f"the blur kernel must be odd, 1 to 31, not {self.blur_kernel}")
        if self.min_native < 1:
            raise ConfigError("min_native must be 1 or more")

    def config(self) -> dict[str, object]:
        """Return the settings as JSON values."""
        return asdict(self)

    def digest(self) -> bytes:
        """Return the 32-byte digest of the settings."""
        return tagged_digest("thoracle/preprocessing/v1", canonical_json(self.config()))


def process(data: bytes, name: str, plan: Preprocessing) -> Grey:
    """Decode one image file and return (size, size) uint8 under ``plan``.

    Raises:
        DataError: the file cannot be decoded.
    """
    film = decode(data, name)
    if PROCESSED not in data[:HEAD]:
        film = enhance(film, plan)
    return resize(film, plan.size)


def prepared_as(head: bytes, plan: Preprocessing) -> bool:
    """Return whether a file may stand for a film under ``plan``, whatever its size.

    Args:
        head: the file's first ``HEAD`` bytes.
        plan: what other films go through.

    Returns:
        False only for a film that ``data prepare`` made with other steps or parameters.
    """
    place = head.find(PROCESSED)
    if place < 0 or not head.startswith(_PNG):
        return True
    side = int.from_bytes(head[16:20])
    said = head[place + len(PROCESSED) + 1 :][:64]
    if not MIN_SIZE <= side <= MAX_SIZE:
        return False
    return said == replace(plan, size=side).digest().hex().encode()


def enhance(film: Grey, plan: Preprocessing) -> Grey:
    """Apply CLAHE, blur and mask at native resolution, as switched."""
    large = min(film.shape) >= plan.min_native

    def on(switch: Switch) -> bool:
        return switch == "on" or (switch == "auto" and large)

    out = film
    if on(plan.clahe):
        # one object a film: OpenCV's keeps state and threads would share it
        clahe = cv2.createCLAHE(plan.clahe_clip, (plan.clahe_grid, plan.clahe_grid))
        out = np.asarray(clahe.apply(out), dtype=np.uint8)
    if on(plan.blur):
        side = plan.blur_kernel
        out = np.asarray(cv2.GaussianBlur(out, (side, side), 0), dtype=np.uint8)
    if on(plan.mask):
        out = mask_non_diagnostic(film, out)
    return out


def resize(film: Grey, size: int) -> Grey:
    """Return (size, size) uint8 from (H, W) uint8, filling the square."""
    if film.shape == (size, size):
        return film
    shrinks = min(film.shape) >= size
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(film, (size, size), interpolation=how), dtype=np.uint8)
