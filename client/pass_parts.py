"""Which images a round trains on where a pass over them is divided over several rounds.

The longer hospitals that differ train alone, the further their models come apart, and their average
is then a model that none of them has tried (client drift: Karimireddy et al., ICML 2020). Averaging
several times in a pass costs rounds and not a gradient more. Every image is in one part of a pass:
they are cut from one order of all images, another one in each pass. A round that is aborted, or
that a hospital misses, leaves its part out of that pass, and rounds that are no multiple of the
parts end within one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Generator, randperm

_ORDER = 0x70617274
"""Seeds an order that is no secret: it says nothing of what the images are."""


def part_of_pass(count: int, parts: int, turn: int) -> NDArray[np.int64]:
    """Return the sorted rows of one part, at least one; all of them if there is one part.

    Args:
        count: images, at least 1.
        parts: of a pass, at least 1.
        turn: rounds of the phase before this one, at least 0.
    """
    done, part = divmod(turn, parts)
    order = randperm(count, generator=Generator().manual_seed(_ORDER + done)).numpy()
    chosen: NDArray[np.int64] = np.sort(order[part % count :: parts]).astype(np.int64)
    return chosen
