"""Where a hospital computes: its processor, or a GPU where there is one.

The choice is the hospital's own and in no configuration: ``THORACLE_DEVICE`` is ``auto`` (the
default: a CUDA GPU where torch finds one), ``cpu`` or ``cuda``. Models are exchanged as float32 on
the processor whatever it is. On the processor equal seeds give equal bits; on a GPU they do not
quite (sums run in no fixed order, and dropout's generator is another), so there only the audit's
own arithmetic, which is NumPy's, is bit for bit. Other accelerators are not offered: nobody has
seen a training step of these learners on one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, TypeVar

import torch
from torch import Tensor, nn

from ledger.errors import ConfigError

VARIABLE: Final = "THORACLE_DEVICE"
AUTO, CPU, CUDA = "auto", "cpu", "cuda"
WORKERS: Final = 2
"""Batches that threads fetch ahead of a GPU, each into pinned memory."""

Item = TypeVar("Item")
Fetched = TypeVar("Fetched")


def choose(name: str | None = None) -> torch.device:
    """Return the device to compute on.

    Args:
        name: ``auto``, ``cpu`` or ``cuda``; None: what ``THORACLE_DEVICE`` says, or ``auto``.

    Raises:
        ConfigError: another name, or no GPU where one is asked for.
    """
    asked = name or os.environ.get(VARIABLE) or AUTO
    if asked not in (AUTO, CPU, CUDA):
        raise ConfigError(f"a device is {AUTO}, {CPU} or {CUDA}, not {asked!r}")
    found = torch.cuda.is_available() if asked != CPU else False
    if asked == CUDA and not found:
        raise ConfigError("there is no GPU that torch can use; say cpu or auto")
    return torch.device(CUDA, torch.cuda.current_device()) if found else torch.device(CPU)


@contextmanager
def placed(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Keep a module on a device while a block runs; then bring it back to the processor.

    On a GPU four-dimensional weights lie channels last, as tensor cores read them. Parameters stay
    the same objects.
    """
    if device.type == CPU:
        yield
        return
    module.to(device)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack it
    try:
        yield
    finally:
        module.to(torch.device(CPU))


def mixed(device: torch.device, *, wanted: bool) -> AbstractContextManager[object]:
    """Compute in bfloat16 where that is quick and ``wanted``; weights stay float32.

    bfloat16 has float32's range, so the loss needs no scaling (Kalamkar et al. 2019). Private
    steps never ask for it: a rounding of one sample's gradient would be harmless to the guarantee,
    but the oracle could no longer tell coupling from rounding.
    """
    if device.type == CPU or not wanted:
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def exact(device: torch.device) -> AbstractContextManager[object]:
    """Compute in full float32 on a GPU too, whose convolutions round to TF32 (10 bits) otherwise.

    For scores, and for the oracle: TF32's rounding is of the size of the coupling it looks for.
    """
    if device.type == CPU:
        return nullcontext()
    flags = torch.backends.cudnn
    return flags.flags(
        enabled=True,
        benchmark=flags.benchmark,
        deterministic=flags.deterministic,
        allow_tf32=False,
    )


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor in memory that a GPU copies from by itself; as it is for the processor."""
    return tensor if device.type == CPU else tensor.pin_memory()


def ahead(
    items: Iterable[Item], fetch: Callable[[Item], Fetched], device: torch.device
) -> Iterator[Fetched]:
    """Yield ``fetch(item)`` in order; for a GPU, threads fetch the next ones meanwhile.

    Reading rows of a mapped file and pinning them releases the interpreter, so threads do.
    """
    if device.type == CPU:
        yield from map(fetch, items)
        return
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="fetch") as threads:
        waiting: deque[Future[Fetched]] = deque()
        try:
            for item in items:
                waiting.append(threads.submit(fetch, item))
                if len(waiting) > WORKERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()
