"""Public label shares, where a model's output bias may start without costing privacy.

The NIH ChestX-ray14 release publishes its label counts (Wang et al., CVPR 2017, with the release's
later additions; 112,120 images). They are properties of that public release, not of any hospital
that trains here, so a model may start from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from client.data.records import FINDINGS
from client.data.vocabulary import ABNORMAL

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


_NO_FINDING = 60_361
"""Images of the same release that are labelled "No Finding".

From a public count over its table (the card of "NIH-Chest-X-ray-dataset" on the Hugging Face hub),
which gives it as 0.426468 of all labels: so it is, of this number and the 14 counts above together
(141,537). The release's own table of all 112,120 images was not at hand.
"""

_STUDIES = 187_641
_STUDY_COUNTS = MappingProxyType(
    {
        "Enlarged_Cardiomediastinum": 9_020,
        "Lung_Opacity": 92_669,
        "Lung_Lesion": 6_856,
        "Pleural_Other": 2_441,
        "Fracture": 7_270,
        "Support_Devices": 105_831,
    }
)
"""Studies with each further finding, of CheXpert's 187,641 (Irvin et al., AAAI 2019, table 1).

Compared, number by number and percentage by percentage, with a public transcription of that table
("Distribution of Thorax conditions", which also gives uncertain and negative counts); the paper's
own PDF was not at hand.
"""

UNPUBLISHED = 0.05
"""Where a finding of neither release starts: rare, as findings are."""


def nih_prior() -> tuple[float, ...]:
    """Return the share of images with each of the 14 findings, in the release's order."""
    return public_prior(FINDINGS)


def public_prior(findings: Sequence[str]) -> tuple[float, ...]:
    """Return the published share of positives of each finding (canonical names)."""
    known = {name: count / _IMAGES for name, count in _COUNTS.items()}
    known.update({name: count / _STUDIES for name, count in _STUDY_COUNTS.items()})
    known[ABNORMAL] = 1 - _NO_FINDING / _IMAGES
    return tuple(known.get(name, UNPUBLISHED) for name in findings)
