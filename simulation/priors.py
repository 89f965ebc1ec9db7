"""Public label shares, where a model's output bias may start without costing privacy.

The NIH ChestX-ray14 release publishes its label counts (Wang et al., CVPR 2017, with the release's
later additions; 112,120 images). They are properties of that public release, not of any hospital
that trains here, so a model may start from them.
"""

from __future__ import annotations

from types import MappingProxyType

from client.data.records import FINDINGS

_IMAGES = 112_120
_COUNTS = MappingProxyType(
    {
        "Atelectasis": 11_559,
        "Cardiomegaly": 2_776,
        "Effusion": 13_317,
        "Infiltration": 19_894,
        "Mass": 5_782,
        "Nodule": 6_331,
        "Pneumonia": 1_431,
        "Pneumothorax": 5_302,
        "Consolidation": 4_667,
        "Edema": 2_303,
        "Emphysema": 2_516,
        "Fibrosis": 1_686,
        "Pleural_Thickening": 3_385,
        "Hernia": 227,
    }
)


def nih_prior() -> tuple[float, ...]:
    """Return the share of images with each of the 14 findings, in the release's order."""
    return tuple(_COUNTS[name] / _IMAGES for name in FINDINGS)
