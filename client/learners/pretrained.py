"""Initial weights from a file, or from timm's hub where there is one.

They belong to the initial model, whose digest the contract is deployed with, and to nothing else:
no learner's description names them, so no coordinator can make a hospital open a file. A file is
``.safetensors``, or a ``torch.save``d state dict (read with ``weights_only``: no code runs).

Torchvision and timm name the same network's tensors differently; where no name is known, but all
tensors stand in the same order with the same shapes, the order counts (``in_our_names``).

What was trained elsewhere rarely fits whole. A first convolution of three channels is summed to
one (a grey image is three equal channels); a head of other classes, and norms that this learner
has replaced, start from the seed. What was taken and what was not is returned, never guessed; a
file that fits in less than half of the network's values is refused. A learner of several networks
says which of them weights are for (``Learner.place_weights``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from client.learners.interface import Learner
from ledger.errors import ConfigError, DataError

HUB = "hub"
MAX_BYTES = 1 << 32
_LEAST_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """What was taken over.

    Args:
        source: the file's name, or ``hub``.
        loaded: tensors taken as they are.
        adapted: first convolutions summed to one channel.
        fresh: floating tensors of the network that start from the seed.
        share: of the values that were taken of the network, or of the part of it that the
            learner says weights are for, (0, 1].
    """

    source: str
    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    fresh: tuple[str, ...]
    share: float


def load_pretrained(module: nn.Module, learner: Learner, source: str) -> Pretrained:
    """Copy weights into a module that ``learner.build`` has just built.

    Args:
        module: changed in place; untouched where the weights are refused.
        learner: its family; the hub knows timm's only.
        source: path of a file, or ``hub``.

    Raises:
        DataError: the file cannot be read, or holds no state dict, or hardly fits.
        ConfigError: the hub is asked for a learner that timm does not have, or cannot be reached.
    """
    given = _from_hub(learner) if source == HUB else _from_file(Path(source))
    prefix, placed = learner.place_weights(given)
    part = {n.removeprefix(prefix): n for n in module.state_dict() if n.startswith(prefix)}
    placed = in_our_names(placed, {n: module.state_dict()[part[n]] for n in part})
    given = {prefix + name: tensor for name, tensor in placed.items()}
    own = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if name.startswith(prefix) and tensor.is_floating_point()
    }
    head = learner.head(module)
    heads = {id(tensor) for tensor in head.state_dict(keep_vars=True).values()}
    skip = {
        name for name, tensor in module.state_dict(keep_vars=True).items() if id(tensor) in heads
    }
    taken: dict[str, Tensor] = {}
    adapted = []
    for name, tensor in own.items():
        found = given.get(name)
        if found is None or name in skip:
            continue
        if found.shape != tensor.shape and _is_colour(found, tensor):
            found = found.sum(dim=1, keepdim=True)
            adapted.append(name)
        if found.shape == tensor.shape and torch.isfinite(found).all():
            taken[name] = found.to(torch.float32)
    values = sum(tensor.numel() for tensor in own.values())
    share = sum(tensor.numel() for tensor in taken.values()) / values
    if share < _LEAST_SHARE:
        raise DataError(
            f"the weights of {source} fit {share:.0%} of learner {learner.name}: they are of"
            " another network"
        )
    module.load_state_dict(taken, strict=False)
    return Pretrained(
        source=HUB if source == HUB else Path(source).name,
        loaded=tuple(sorted(set(taken) - set(adapted))),
        adapted=tuple(sorted(set(adapted) & set(taken))),
        fresh=tuple(sorted(set(own) - set(taken))),
        share=share,
    )


def in_our_names(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the weights of the same network under our names, if only the names differ.

    Torchvision's ``features.1.conv.0.0.weight`` is timm's ``blocks.0.0.conv_dw.weight``; both list
    their tensors in the order of computation. So where not one name is known, the numbers of
    tensors are equal, and so is every shape in order (but a first convolution of colour images,
    and the last two tensors, the head of other classes), the order tells which is which.

    Args:
        given: of a file, in its order.
        own: of the network, in its order.
    """
    if set(given) & set(own) or len(given) != len(own):
        return given
    pairs = list(zip(own, given.values(), strict=True))
    for name, found in pairs[:-2]:
        if found.shape != own[name].shape and not _is_colour(found, own[name]):
            return given
    return dict(pairs)


def _is_colour(found: Tensor, own: Tensor) -> bool:
    """Whether a convolution of three input channels stands where ours has one."""
    return found.ndim == 4 and own.ndim == 4 and found.shape[1] == 3 and own.shape[1] == 1


def _from_file(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise DataError(f"there is no file of initial weights {path}")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"the initial weights {path.name} are over {MAX_BYTES} bytes")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"the initial weights {path.name} cannot be read: {error}") from None
    except Exception as error:
        # pickle.UnpicklingError, named so as not to import pickle: weights_only refused the file.
        raise DataError(f"the initial weights {path.name} are no plain state dict") from error
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(t, Tensor) for t in found.values()):
        raise DataError(f"the initial weights {path.name} are no plain state dict")
    return found


def _from_hub(learner: Learner) -> Mapping[str, Tensor]:
    from client.learners.baselines import TimmLearner, hub_weights

    if not isinstance(learner, TimmLearner):
        raise ConfigError(f"timm's hub has no weights of learner {learner.name}: give a file")
    try:
        return hub_weights(learner.architecture)
    except Exception as error:
        # Offline, the hub's client raises one of a dozen libraries' errors.
        raise ConfigError(
            f"timm's hub cannot be reached for {learner.architecture}"
            f" ({type(error).__name__}): download the weights elsewhere and give the file"
        ) from error
