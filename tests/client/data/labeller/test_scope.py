"""Negation, hedging and context, one rule a case; sentences not in the labelled set."""

from __future__ import annotations

import pytest

from client.data.labeller.scope import read_sentence
from client.data.labeller.sentences import normal
from client.data.records import ABSENT, PRESENT, UNCERTAIN


def states(sentence: str) -> dict[str, int]:
    return {s.finding: s.state for s in read_sentence(normal(sentence))}


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("No effusion.", {"Effusion": ABSENT}),
        ("No acute, displaced fracture is seen.", {"Fracture": ABSENT}),
        ("No acute fracture, small effusion.", {"Fracture": ABSENT, "Effusion": PRESENT}),
        (
            "No change in the effusion or consolidation.",
            {"Effusion": PRESENT, "Consolidation": PRESENT},
        ),
        ("Vascular engorgement appears within the limits of normal.", {"Edema": ABSENT}),
        ("Heart size is within limits of normal.", {"Cardiomegaly": ABSENT}),
        ("Heart size is at the upper limits of normal.", {"Cardiomegaly": UNCERTAIN}),
        ("Heart size remains unchanged and is within normal limits.", {"Cardiomegaly": ABSENT}),
        ("Heart size is stable and mildly enlarged.", {"Cardiomegaly": PRESENT}),
        (
            "Heart size is stable and mediastinal contours are normal.",
            {"Cardiomegaly": UNCERTAIN, "Enlarged_Cardiomediastinum": ABSENT},
        ),
        ("Mediastinum otherwise unremarkable.", {"Enlarged_Cardiomediastinum": ABSENT}),
        ("No pleural air collections.", {"Pneumothorax": ABSENT}),
        ("The catheter is fractured.", {"Support_Devices": PRESENT}),
        ("Correlate clinically as to signs of pneumonia.", {"Pneumonia": UNCERTAIN}),
        ("No pneumothorx, small efusion.", {"Pneumothorax": ABSENT, "Effusion": PRESENT}),
        ("Effusion is no longer visualised.", {"Effusion": ABSENT}),
        ("Atelectasis rather than pneumonia.", {"Atelectasis": PRESENT, "Pneumonia": ABSENT}),
        ("No change in the effusion.", {"Effusion": PRESENT}),
        ("Effusion has not resolved.", {"Effusion": PRESENT}),
        ("No pneumothorax and small effusion.", {"Pneumothorax": ABSENT, "Effusion": PRESENT}),
        ("No effusion or large pneumothorax.", {"Pneumothorax": ABSENT, "Effusion": ABSENT}),
        (
            "Effusion resolved, atelectasis persists.",
            {"Effusion": ABSENT, "Atelectasis": PRESENT},
        ),
        ("Atelectasis and heart size is normal.", {"Atelectasis": PRESENT, "Cardiomegaly": ABSENT}),
        ("Nondisplaced fracture.", {"Fracture": PRESENT}),
        ("Non-displaced fracture.", {"Fracture": PRESENT}),
        ("Not seen is the prior effusion.", {"Effusion": ABSENT}),
        (
            "Resolution of the effusion following tube placement.",
            {"Effusion": ABSENT, "Support_Devices": PRESENT},
        ),
        (
            "No effusion after tube removal.",
            {"Effusion": ABSENT, "Support_Devices": ABSENT},
        ),
        ("Mediastinal contours are preserved.", {"Enlarged_Cardiomediastinum": ABSENT}),
        ("Atx, no consol or eff.", {"Atelectasis": 1, "Consolidation": 0, "Effusion": 0}),
        ("Metastatic breast cancer, no nodules.", {"Nodule": ABSENT, "Lung_Lesion": ABSENT}),
    ],
)
def test_negation(sentence: str, expected: dict[str, int]) -> None:
    assert states(sentence) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Effusion cannot be excluded.", {"Effusion": UNCERTAIN}),
        ("No effusion, pneumonia not excluded.", {"Effusion": ABSENT, "Pneumonia": UNCERTAIN}),
        (
            "Atelectasis, cannot rule out pneumonia.",
            {"Atelectasis": PRESENT, "Pneumonia": UNCERTAIN},
        ),
        (
            "Atelectasis versus pneumonia.",
            {"Atelectasis": UNCERTAIN, "Pneumonia": UNCERTAIN},
        ),
        ("No consolidation suspicious for pneumonia.", {"Consolidation": ABSENT, "Pneumonia": 0}),
        (
            "Differential includes atelectasis, edema and pneumonia.",
            {"Atelectasis": UNCERTAIN, "Edema": UNCERTAIN, "Pneumonia": UNCERTAIN},
        ),
        ("Possible effusion, cardiomegaly.", {"Effusion": UNCERTAIN, "Cardiomegaly": PRESENT}),
        ("Blunted costophrenic angle.", {"Effusion": UNCERTAIN}),
        ("Effusion probably due to heart failure.", {"Effusion": PRESENT, "Edema": UNCERTAIN}),
        (
            "Consistent with edema, pneumonia, or both.",
            {"Edema": UNCERTAIN, "Pneumonia": UNCERTAIN},
        ),
        (
            "Compatible with edema, pneumonia, or atelectasis.",
            {"Edema": UNCERTAIN, "Pneumonia": UNCERTAIN, "Atelectasis": UNCERTAIN},
        ),
        ("Edema favored over pneumonia.", {"Edema": UNCERTAIN, "Pneumonia": UNCERTAIN}),
        ("Consolidation, ?pneumonia.", {"Consolidation": PRESENT, "Pneumonia": UNCERTAIN}),
        ("If a pneumothorax is present, it is tiny.", {"Pneumothorax": UNCERTAIN}),
        ("A small effusion could be missed.", {"Effusion": UNCERTAIN}),
        (
            "Pleural fluid or thickening.",
            {"Effusion": UNCERTAIN, "Pleural_Thickening": UNCERTAIN, "Pleural_Other": UNCERTAIN},
        ),
        ("Supine technique accentuates the heart.", {"Cardiomegaly": UNCERTAIN}),
    ],
)
def test_uncertainty(sentence: str, expected: dict[str, int]) -> None:
    assert states(sentence) == expected


@pytest.mark.parametrize(
    "sentence",
    [
        "Evaluate for pneumothorax.",
        "70 year old man with pneumonia.",
        "Treated for pneumonia.",
        "Prior study, which showed an effusion.",
        "Subcutaneous emphysema.",
        "Pericardial effusion.",
        "Mass effect.",
        "Chronic obstructive pulmonary disease.",
        "No acute cardiopulmonary abnormality.",
        "Hyperinflated lungs, kyphosis and a granuloma.",
        "Pulmonary vascularity is normal.",
    ],
)
def test_what_states_nothing(sentence: str) -> None:
    assert states(sentence) == {}


@pytest.mark.parametrize(
    ("sentence", "heart"),
    [
        ("Heart size is normal.", ABSENT),
        ("The heart is not enlarged.", ABSENT),
        ("Normal heart size and mediastinum.", ABSENT),
        ("Heart, mediastinum and hila are unremarkable.", ABSENT),
        ("Enlarged cardiac silhouette.", PRESENT),
        ("Heart size is mildly increased.", PRESENT),
        ("Heart size remains normal.", ABSENT),
        ("Heart and pulmonary XXXX remain normal.", ABSENT),
        ("Heart is top normal in size.", UNCERTAIN),
        ("Heart size is unchanged.", UNCERTAIN),
        ("Enlarged cardiomediastinal silhouette.", UNCERTAIN),
        ("Large effusion obscures the heart.", None),
        ("Leads project over the heart, lungs normal.", None),
    ],
)
def test_heart_size(sentence: str, heart: int | None) -> None:
    assert states(sentence).get("Cardiomegaly") == heart
