"""What a hospital's process is told to run, named without bringing the hospital's libraries.

A call crosses to the fork server of :mod:`client.isolate` by name alone. Were it a function of
:mod:`client.serve`, Flower's worker, which only names it, would import torch for it.
"""

from __future__ import annotations


def carry_out(payload: bytes) -> bytes:
    """Carry out one framed order; see :func:`client.serve.serve`."""
    from client.serve import serve  # imported already where this runs (client.preload)

    return serve(payload)
