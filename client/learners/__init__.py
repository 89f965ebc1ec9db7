"""Model families, one a file, behind one interface.

``interface`` (what a learner is) · ``registry`` (by name) · ``exchange`` (module to model and
back) · ``vit``, ``cnn``, ``baselines``, ``ssganvit`` (families) · ``pretrained`` · ``losses`` ·
``inputs`` · ``augment`` · ``inference`` · ``determinism`` · and, needing no torch: ``metrics``,
``statistics``, ``bootstrap``, ``operating``, ``calibration``, ``suite`` (all figures at once).

The names below load torch when first used, so that commands which only read stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client.learners.exchange import Model, load_model, module_to_model
    from client.learners.interface import Learner
    from client.learners.registry import from_description, get_learner, learner_names

_HOME = {
    "Learner": "interface",
    "Model": "exchange",
    "from_description": "registry",
    "get_learner": "registry",
    "learner_names": "registry",
    "load_model": "exchange",
    "module_to_model": "exchange",
}

__all__ = [
    "Learner",
    "Model",
    "from_description",
    "get_learner",
    "learner_names",
    "load_model",
    "module_to_model",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
