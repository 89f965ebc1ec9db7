"""The patients behind the phantoms: illness, findings, age, sex and how they are imaged.

A liability (probit) model: four illnesses are standard normal in each patient; a finding is
present where its loading on them, the patient's own residue and the day's residue together pass
the threshold of its prevalence. So findings cluster as they do in a clinic (effusion with
oedema and a large heart), persist between a patient's images, and the sicker a patient is on the
day, the likelier the image was taken AP in bed: the shortcut that real data has too.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from client.data.records import FINDINGS, Sex, View

ILLNESSES = ("heart failure", "infection", "chronic lung disease", "tumour")

# finding: (prevalence, loadings on ILLNESSES, added liability per decade of age over 50)
_MODEL: dict[str, tuple[float, tuple[float, float, float, float], float]] = {
    "Atelectasis": (0.12, (0.3, 0.4, 0.1, 0.3), 0.08),
    "Cardiomegaly": (0.10, (0.8, 0.0, 0.0, 0.0), 0.10),
    "Effusion": (0.14, (0.6, 0.2, 0.0, 0.4), 0.06),
    "Infiltration": (0.14, (0.2, 0.6, 0.1, 0.1), 0.0),
    "Mass": (0.07, (0.0, 0.0, 0.1, 0.8), 0.08),
    "Nodule": (0.08, (0.0, 0.0, 0.1, 0.7), 0.05),
    "Pneumonia": (0.07, (0.1, 0.8, 0.1, 0.0), 0.02),
    "Pneumothorax": (0.07, (0.0, 0.0, 0.5, 0.2), -0.05),
    "Consolidation": (0.09, (0.2, 0.7, 0.0, 0.1), 0.02),
    "Edema": (0.07, (0.8, 0.2, 0.0, 0.0), 0.05),
    "Emphysema": (0.07, (-0.1, 0.0, 0.8, 0.0), 0.10),
    "Fibrosis": (0.07, (0.0, 0.1, 0.7, 0.0), 0.12),
    "Pleural_Thickening": (0.07, (0.0, 0.1, 0.3, 0.4), 0.06),
    "Hernia": (0.04, (0.1, 0.0, 0.0, 0.0), 0.25),
}
_STEADY = 0.8
"""Share of a finding's residual variance that is the patient's, not the day's."""

MAX_IMAGES = 12


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One image to be made.

    Attributes:
        patient: number from 1.
        follow_up: ordinal of the image for this patient, from 0.
        age: years at the visit.
        sex, view: as in the NIH table.
        severity: finding -> how marked its signs are, 0.6 to 1, for the findings present.
    """

    patient: int
    follow_up: int
    age: int
    sex: Sex
    view: View
    severity: dict[str, float]


def visits(patient: int, rng: np.random.Generator) -> tuple[Visit, ...]:
    """Draw one patient's images (1 to ``MAX_IMAGES``, two and a half on average)."""
    age = int(np.clip(rng.normal(50, 17), 5, 92))
    sex: Sex = "M" if rng.random() < 0.55 else "F"
    illness = rng.normal(size=len(ILLNESSES))
    residue = rng.normal(size=len(FINDINGS))
    ill = float(np.maximum(illness, 0.0).sum())
    count = int(min(rng.geometric(1.0 / (1.4 + 0.7 * ill)), MAX_IMAGES))
    made = []
    for follow_up in range(count):
        severity = _findings(illness, residue, age, rng)
        ap = 1.0 / (1.0 + np.exp(1.9 - 0.9 * len(severity) - (1.2 if "Edema" in severity else 0)))
        view: View = "AP" if rng.random() < ap else "PA"
        made.append(
            Visit(
                patient=patient,
                follow_up=follow_up,
                age=age + follow_up // 3,
                sex=sex,
                view=view,
                severity=severity,
            )
        )
    return tuple(made)


def patient_visits(patient: int, seed: int) -> tuple[tuple[Visit, np.random.Generator], ...]:
    """Return one patient's visits, each with the generator its image is drawn from."""
    drawn = visits(patient, np.random.default_rng([seed, patient]))
    return tuple(
        (visit, np.random.default_rng([seed, patient, visit.follow_up + 1])) for visit in drawn
    )


def _findings(
    illness: np.ndarray, residue: np.ndarray, age: int, rng: np.random.Generator
) -> dict[str, float]:
    severity = {}
    for column, finding in enumerate(FINDINGS):
        prevalence, loadings, ageing = _MODEL[finding]
        weights = np.array(loadings)
        spread = np.sqrt(1.0 - float(weights @ weights))
        own = np.sqrt(_STEADY) * residue[column] + np.sqrt(1.0 - _STEADY) * rng.normal()
        liability = float(weights @ illness) + spread * float(own) + ageing * (age - 50) / 10
        marked = rng.uniform(0.6, 1.0)
        if liability > NormalDist().inv_cdf(1.0 - prevalence):
            severity[finding] = float(marked)
    return severity


def held_patients(patients: int, test_share: float) -> int:
    """Return how many of so many patients a test list gets: one at least, and not all."""
    return min(max(round(test_share * patients), 1), patients - 1) if test_share else 0
