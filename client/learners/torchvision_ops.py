"""Lets torchvision be imported beside a torch build that its native library does not match.

timm imports torchvision, whose package import registers shape functions for two operators of its
own compiled library. Where that library cannot load (a CPU-only torch beside torchvision's usual
wheel), the import fails with "operator torchvision::nms does not exist". Declaring the operators'
schemas first, without a kernel, is enough: nothing here calls them, and a call still fails loudly.
Import this module before timm or torchvision.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # a Library undeclares its schemas when collected


def _native_library_loads() -> bool:
    spec = importlib.util.find_spec("torchvision")
    folders = (spec.submodule_search_locations if spec else None) or ()
    for folder in folders:
        for library in [*Path(folder).glob("_C*.so"), *Path(folder).glob("_C*.pyd")]:
            try:
                torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            except OSError:
                continue
            return True
    return False


def ensure_torchvision_ops() -> bool:
    """Make ``import torchvision`` work; idempotent.

    Returns:
        True if torchvision's own operators are usable, False if only their names are declared.
    """
    if _declared:
        return False
    if _native_library_loads():
        return True
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _declared.append(library)
    return False


ensure_torchvision_ops()
