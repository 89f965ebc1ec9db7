"""A long round's training, put down every few minutes, so that a hospital that dies goes on.

One file in the hospital's home (0600), replaced whole: a safetensors file of parameters, buffers,
optimiser state and generator states, with the counters as JSON in its header; nothing in it can
run code. It is bound to what was being trained (round, configuration, base model, seed, data): a
checkpoint of anything else, or a damaged one, is removed, and training begins again from the base.
It is removed once the finished update is in the spool.

What may *not* be in it is the secret of the privacy noise: see docs/adr/0010-checkpoints.md.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from ledger.canonical import canonical_json, parse_json, sha256, tagged_digest
from ledger.errors import CodecError, EvidenceMissing
from ledger.files import atomic_write, read_bounded, remove
from ledger.manifest import Model, encode_model

FORMAT: Final = "thoracle/checkpoint/v2"
MAX_CHECKPOINT: Final = 1 << 34
MAX_HEADER: Final = 1 << 24
_ROWS: Final = 256
Numbers = dict[str, int | float]
_UNUSABLE: Final = (
    CodecError,
    safetensors.SafetensorError,
    LookupError,
    TypeError,
    ValueError,
    RuntimeError,
)
"""What reading a checkpoint that is damaged, or of something else, can raise."""


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """How often training is put down: whichever comes first.

    Attributes:
        seconds: of training since the last time.
        steps: since the last time; 0 counts only the seconds.
        clock: seconds that only go forward.
    """

    seconds: float = 300.0
    steps: int = 0
    clock: Callable[[], float] = time.monotonic


@dataclass(kw_only=True)
class Checkpoint:
    """The checkpoint of one training.

    Args:
        path: the file.
        binding: digest of everything the training depends on (32 bytes).
        cadence: how often it is written.
    """

    path: Path
    binding: bytes
    cadence: Cadence = field(default_factory=Cadence)
    _last: tuple[float, int] = field(default=(0.0, 0), init=False)

    def __post_init__(self) -> None:
        self._last = (self.cadence.clock(), 0)

    def due(self, done: int) -> bool:
        """Say whether, after ``done`` steps, it is time to put the training down."""
        since, steps = self.cadence.clock() - self._last[0], done - self._last[1]
        return since >= self.cadence.seconds or 0 < self.cadence.steps <= steps

    def save(
        self,
        module: nn.Module,
        optimisers: Mapping[str, Optimizer],
        generators: Mapping[str, Tensor],
        numbers: Numbers,
    ) -> None:
        """Put a training down durably, in place of the last time.

        Args:
            module: what is being trained.
            optimisers: its optimisers by name.
            generators: states of the generators in use, beside torch's own.
            numbers: counters; ``done`` is how many steps were taken.

        Raises:
            OutputError: it cannot be written; the last one stands.
        """
        tensors, scalars = _optimiser_states(optimisers)
        tensors |= {f"module/{name}": tensor for name, tensor in module.state_dict().items()}
        tensors |= {f"generator/{name}": state for name, state in generators.items()}
        tensors["generator/torch"] = torch.get_rng_state()
        about = {
            "format": FORMAT,
            "binding": self.binding.hex(),
            "numbers": numbers,
            "optimiser": scalars,
        }
        plain = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
        data = safetensors.torch.save(plain, {"about": canonical_json(about).decode()})
        atomic_write(self.path, data, mode=0o600)
        self._last = (self.cadence.clock(), int(numbers["done"]))

    def load(
        self,
        module: nn.Module,
        optimisers: Mapping[str, Optimizer],
        generators: Mapping[str, Generator],
    ) -> Numbers | None:
        """Restore a training in place; None where there is nothing to go on from.

        Args:
            module: what is being trained.
            optimisers: by the names under which they were saved.
            generators: likewise (torch's own is restored too).

        Returns:
            The counters.
        """
        try:
            return self._read(module, optimisers, generators)
        except EvidenceMissing:
            return None
        except _UNUSABLE:
            self.clear()
            return None

    def _read(
        self,
        module: nn.Module,
        optimisers: Mapping[str, Optimizer],
        generators: Mapping[str, Generator],
    ) -> Numbers:
        data = read_bounded(self.path, MAX_CHECKPOINT)
        about = _about(data)
        if about["format"] != FORMAT or about["binding"] != self.binding.hex():
            raise ValueError("the checkpoint is of another training")
        tensors = safetensors.torch.load(data)
        numbers: Numbers = dict(about["numbers"])
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        fresh = {name: each.get_state() for name, each in generators.items()}
        try:
            for name, generator in generators.items():
                generator.set_state(tensors[f"generator/{name}"])
            _restore(module, optimisers, tensors, about["optimiser"])
            torch.set_rng_state(tensors["generator/torch"])
        except _UNUSABLE:
            module.load_state_dict(before)  # what does not fit may have been half put back
            for name, generator in generators.items():
                generator.set_state(fresh[name])
            raise
        self._last = (self.cadence.clock(), int(numbers["done"]))
        return numbers

    def clear(self) -> None:
        """Forget it: the update is finished, or the training another one."""
        remove(self.path)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where a hospital's trainer puts its work down; one training at a time.

    Attributes:
        folder: in the hospital's home.
        data: the arrays that are trained on; read (and digested) only when a training begins.
        cadence: how often.
    """

    folder: Path
    data: tuple[NDArray[Any], ...] = field(repr=False)
    cadence: Cadence = field(default_factory=Cadence)

    def checkpoint(self, base: Model, config: Mapping[str, object], seed: int) -> Checkpoint:
        """Return the checkpoint of one training, bound to everything that it depends on."""
        binding = tagged_digest(
            "thoracle/checkpoint/v1",
            canonical_json(dict(config)),
            sha256(encode_model(base)),
            digest_of(*self.data),
            seed,
        )
        return Checkpoint(path=self._path, binding=binding, cadence=self.cadence)

    def clear(self) -> None:
        """Forget what lies here: the update it led to is durable."""
        remove(self._path)

    @property
    def _path(self) -> Path:
        return self.folder / "checkpoint"


def digest_of(*arrays: NDArray[Any]) -> bytes:
    """Return a digest of what is trained on: shapes, types and values."""
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(f"{array.shape} {array.dtype};".encode())
        for start in range(0, len(array), _ROWS):  # it may be larger than memory
            hasher.update(np.ascontiguousarray(array[start : start + _ROWS]).data)
    return hasher.digest()


def _about(data: bytes) -> dict[str, Any]:
    """Return what a checkpoint's header says (ValueError, LookupError where it cannot)."""
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER, len(data)):
        raise ValueError("the header is longer than the file")
    header = parse_json(data[8 : 8 + length].rstrip(b" "), MAX_HEADER)
    if not isinstance(header, dict):
        raise TypeError("the header is no object")
    about = parse_json(str(header["__metadata__"]["about"]).encode(), MAX_HEADER)
    if not isinstance(about, dict):
        raise TypeError("what it says of itself is no object")
    return about


def _optimiser_states(
    optimisers: Mapping[str, Optimizer],
) -> tuple[dict[str, Tensor], dict[str, int | float]]:
    """Return the optimisers' state as tensors and numbers named ``optimiser/parameter/slot``."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, int | float] = {}
    for which, optimiser in optimisers.items():
        for index, name, value in _items(optimiser.state_dict()["state"]):
            if isinstance(value, Tensor):
                tensors[f"optimiser/{which}/{index}/{name}"] = value
            elif value is not None:
                scalars[f"{which}/{index}/{name}"] = value
    return tensors, scalars


def _items(state: Mapping[int, Mapping[str, Any]]) -> Iterator[tuple[int, str, Any]]:
    for index, slots in state.items():
        for name, value in slots.items():
            yield index, name, value


def _restore(
    module: nn.Module,
    optimisers: Mapping[str, Optimizer],
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, int | float],
) -> None:
    """Put everything back; whatever does not fit raises, with the module to be thrown away."""
    states: dict[str, dict[int, dict[str, Any]]] = {which: {} for which in optimisers}
    for key, value in [*tensors.items(), *((f"optimiser/{k}", v) for k, v in scalars.items())]:
        if key.startswith("optimiser/"):
            _, which, index, name = key.split("/", 3)
            states[which].setdefault(int(index), {})[name] = value
    weights = {k.removeprefix("module/"): v for k, v in tensors.items() if k.startswith("module/")}
    module.load_state_dict(weights)
    for which, optimiser in optimisers.items():
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": states[which], "param_groups": groups})
