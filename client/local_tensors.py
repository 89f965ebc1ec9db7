"""What a hospital keeps of the model for itself: norms (FedBN) or a head of its own.

One canonical file a round in the home's ``local/`` (0600). A round starts from the newest file of
an *earlier* round, so that training it again after a crash gives the same update; a model that a
round led to is scored with that round's own file. Nothing of this ever leaves the hospital.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from client.learners.exchange import load_model, module_to_model
from client.learners.interface import Learner
from ledger.files import MAX_OBJECT, atomic_write, read_bounded, remove
from ledger.manifest import Manifest, decode_model, encode_model

SUFFIX = ".safetensors"
_KEPT = 3


@dataclass(frozen=True, kw_only=True)
class LocalTensors:
    """The local tensors of one hospital.

    Args:
        folder: in its home; made when first needed.
    """

    folder: Path

    def restore(self, learner: Learner, module: nn.Module, last: int) -> bool:
        """Load the newest tensors of round ``last`` or before; False where there are none.

        Raises:
            CodecError: a file is damaged, or of another learner.
        """
        names = learner.local_tensors(module)
        rounds = [number for number in self._rounds() if number <= last] if names else []
        if not rounds:
            return False
        own = module_to_model(module, names)
        data = read_bounded(self._path(max(rounds)), MAX_OBJECT)
        load_model(module, decode_model(data, Manifest.of_model(own)), names)
        return True

    def keep(self, learner: Learner, module: nn.Module, number: int) -> None:
        """Keep a trained module's local tensors as those of round ``number``.

        Raises:
            OutputError: they cannot be written.
        """
        names = learner.local_tensors(module)
        if not names:
            return
        self.folder.mkdir(mode=0o700, exist_ok=True)
        atomic_write(self._path(number), encode_model(module_to_model(module, names)), mode=0o600)
        for old in self._rounds()[:-_KEPT]:
            remove(self._path(old))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}{SUFFIX}"

    def _rounds(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        names = (path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"*{SUFFIX}"))
        return sorted(int(name) for name in names if name.isdigit())
