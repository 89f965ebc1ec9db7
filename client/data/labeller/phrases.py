"""The words that name each finding: vocabularies of the 14 NIH and the other CheXpert findings.

Patterns read the normal form of ``sentences.normal``. Which words belong to which finding follows
CheXpert's definitions (Irvin et al., AAAI 2019) where it has the finding: infection names
Pneumonia, heart failure and vascular congestion name Edema, infiltrates and interstitial markings
name Lung_Opacity; and NIH's (Wang et al., CVPR 2017) for the rest. A mention has one of three
kinds:

    "finding"    states its finding by being there ("effusion"), unless it is negated
    "hint"       a sign that leaves its finding uncertain ("blunted costophrenic angle")
    "structure"  an organ; what is said about it decides ("heart size is normal")
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from client.data.records import FINDINGS

LABELS: tuple[str, ...] = (
    *FINDINGS,
    "Enlarged_Cardiomediastinum",
    "Lung_Opacity",
    "Lung_Lesion",
    "Pleural_Other",
    "Fracture",
    "Support_Devices",
)
"""What mentions can name: NIH's 14 findings, then CheXpert's others, by their canonical names."""

NO_FINDING = "No_Finding"

Kind = Literal["finding", "hint", "structure"]

_SIDE = r"(?:left|right|bilateral|both|the|lateral|posterior|anterior|minimal|slight|mild) "
_BLUNT = r"blunt(?:ed|ing)"
_ANGLE = r"(?:costo ?phrenic|cp|lateral|posterior) (?:angles?|sulc(?:us|i)|recess(?:es)?)"
_CANCER = r"(?:adeno)?carcinomas?|neoplas\w*|malignanc(?:y|ies)|tumors?|metasta\w+|cancers?"
_DENSITY = r"densit(?:y|ies)"
_LUNG_PLACE = (
    r"(?:lungs?|lobes?|bases?|ap(?:ex|ices)|hil(?:um|a)|hemithora(?:x|ces)|zones?|mid lungs?)"
)
_DENSE = (
    r"increased|vague|hazy|patchy|streaky|linear|ill defined|retrocardiac|basilar|basal|bibasilar|"
    r"air space|focal|subtle|rounded|asymmetric|parenchymal|abnormal|perihilar|infrahilar|"
    r"suprahilar|pulmonary|interstitial|alveolar|reticular|confluent|lung|apical"
)
_MARKINGS = r"(?:markings?|patterns?|prominence|thickening|changes|abnormalit(?:y|ies)|densit(?:y|ies)|lung disease|disease|process(?:es)?)"
_DEVICE = (
    r"(?:chest|endotracheal|et|ng|og|nasogastric|orogastric|enteric|feeding|dobb? ?hoff|"
    r"tracheostomy|thoracostomy|pleural|nasoenteric|gastrostomy|gastric|drainage|support|"
    r"monitoring|esophageal|intestinal|g|j|pigtail|trach|mediastinal) tubes?"
)
_LINE = (
    r"(?:central|venous|picc|ij|jugular|subclavian|femoral|dialysis|arterial|support|monitoring|"
    r"access|cv|vascular|infusion|indwelling|iv) lines?"
)

_FINDINGS: dict[str, tuple[str, ...]] = {
    "Atelectasis": (
        r"(?:micro)?atelec\w+",
        r"atalec\w+",
        r"(?:lobar |lobe |lung |segmental |partial |complete )?collaps(?:e|ed|ing)(?! of (?:the )?(?:\w+ )?(?:vertebra\w*|[tl]\d+))",
    ),
    "Cardiomegaly": (
        r"cardi\w{0,3}mega\w+",
        r"cardiac (?:and mediastinal )?enlargement",
        r"(?:left |right |bi)?(?:ventricular|atrial|chamber|ventricle) enlargement",
        r"enlargement of (?:the )?(?:cardiac|heart)\w*",
        r"cardiac hypertrophy",
    ),
    "Effusion": (
        r"(?:pleural |parapneumonic |subpulmonic |hemorrhagic )*effusions?",
        r"effusive",
        r"pleural (?:\w+ )?fluid(?: collections?)?",
        r"fluid in the (?:\w+ )?(?:pleural space|fissures?)|fissural fluid",
        r"(?:hydro|hemo|pyo)(?:pneumo)?thora(?:x|ces)",
        r"empyema\w*",
        r"pleural collections?",
        r"chylothorax",
    ),
    "Infiltration": (r"infil?tra\w+",),
    "Mass": (r"mass(?:es)?(?! like)",),
    "Nodule": (r"(?:micro)?nod(?:ul|ule|ular|ules|ularity)\b", r"lung nod\w+", r"nodulos\w+"),
    "Pneumonia": (
        r"(?:broncho|pleuro)?pneumoni(?:a|as|ae|c)",
        r"infect(?:ion|ions|ious)(?: (?:process(?:es)?|etiolog(?:y|ies)|infiltrates?|disease))?",
        r"pneumonic (?:process|infiltrates?|consolidations?)",
    ),
    "Pneumothorax": (r"(?:hydro|hemo|pyo)?pneumothora(?:x|ces|cis|xes)", r"pneumothorac\w+"),
    "Consolidation": (r"consolida\w+",),
    "Edema": (
        r"edema(?:tous)?",
        r"(?:congestive |cardiac )?(?:heart|cardiac) failure",
        r"(?:cardiac|left ventricular|lv) (?:decompensation|failure)",
        r"(?:cardio)?(?:pulmonary |vascular |venous |hilar |interstitial |central |perihilar |lung )+congestion",
        r"congestive (?:changes?|failure|pattern)",
        r"congestion",
        r"decompensat(?:ion|ed)",
        r"(?:vascular|venous|vessel|pulmonary) (?:engorgement|indistinctness|redistribution|cephalization)",
        r"(?:engorged|engorgement of|indistinct|indistinctness of|congested|prominen(?:t|ce) of|prominent) (?:the )?(?:\w+ ){0,2}(?:vasculature|vascularity|vessels|vasculatures)",
        r"(?:vasculature|vascularity|vessels) (?:is|are|remains?|appears?) (?:\w+ ){0,2}(?:engorged|congested|indistinct|prominent|cephalized)",
        r"(?:pulmonary )?(?:vascular|vasculature) prominence",
        r"cephalization",
        r"(?:fluid|volume) overload",
        r"kerley b? ?(?:lines?)?",
    ),
    "Emphysema": (r"emphysem\w+", r"bullous (?:disease|changes?)"),
    "Fibrosis": (r"fibro(?:sis|tic|ses)", r"honeycomb\w*", r"fibrocystic changes?"),
    "Pleural_Thickening": (
        r"(?:pleural|fissural|pleura) (?:\w+ )?thickening",
        r"thicken(?:ing|ed) (?:of )?(?:the )?(?:\w+ ){0,2}(?:pleura|fissures?)",
        r"pleural (?:parenchymal )?(?:effusions?|fluid|plaques?|scar(?:ring)?)"
        r" (?:and|or|versus|/) (?:or )?(?:\w+ )?thickening",
        r"apical (?:capping|thickening|caps?)",
    ),
    "Hernia": (
        r"herniat(?:ed|ion) of (?:\w+ ){0,3}(?:stomach|bowel|abdominal|fat)\w*",
        r"hernias?",
    ),
    "Enlarged_Cardiomediastinum": (
        r"(?:cardio)? ?mediastinal (?:widening|enlargement)",
        r"(?:widening|enlargement) of (?:the )?(?:\w+ ){0,2}(?:cardio)?mediastin\w+",
        r"(?:wide|widened) (?:\w+ )?mediastinum",
    ),
    "Lung_Opacity": (
        r"(?:radi)?opaci\w+",
        r"infil?tra\w+",
        r"(?:(?:air ?space|alveolar|interstitial lung) (?:disease|process(?:es)?|abnormalit(?:y|ies)|changes?)|parenchymal (?:disease|process(?:es)?))",
        r"ground glass",
        r"haz(?:e|y|iness)",
        r"(?:interstitial|reticular|reticulonodular|septal) "
        + _MARKINGS,
        r"(?:bronchovascular|bronchial|lung|parenchymal|bronchopulmonary|pulmonary) markings?",
        r"interstitium",
        r"reticula(?:r|tion|tions)|reticulonodular",
        r"(?:peri)?bronchial (?:wall )?(?:thickening|cuffing)",
        r"scar(?:s|red|ring)?",
        rf"(?:{_DENSE}) (?:\w+ ){{0,2}}{_DENSITY}",
        rf"{_DENSITY} (?:\w+ ){{0,3}}(?:the|left|right|both) (?:\w+ ){{0,3}}{_LUNG_PLACE}",
        r"decreased translucency",
    ),
    "Lung_Lesion": (
        r"mass(?:es)?(?! like)",
        r"(?:micro)?nod(?:ul|ule|ular|ules|ularity)\b",
        r"nodulos\w+",
        _CANCER,
        r"(?:cavitary|lung|pulmonary|parenchymal|mass like|spiculated|cavitating|intrapulmonary|cystic) (?:\w+ )?lesions?",
        r"lesions? (?:in|within|at|of) (?:the )?(?:\w+ ){0,3}(?:lungs?|lobes?|ap(?:ex|ices)|lingula|bases?)",
        r"cavitation|cavities",
    ),
    "Pleural_Other": (
        r"(?:pleural|fissural|pleura) (?:\w+ )?(?:thickening|plaques?|scar(?:ring|s)?|calcifications?|plaquing|fibrosis|reaction|based lesions?|nodularity|irregularity)",
        r"(?:calcified|pleural) plaques?",
        r"thicken(?:ing|ed) (?:of )?(?:the )?(?:\w+ ){0,2}(?:pleura|fissures?)",
        r"pleural (?:parenchymal )?(?:effusions?|fluid|plaques?|scar(?:ring)?)"
        r" (?:and|or|versus|/) (?:or )?(?:\w+ )?thickening",
        r"pleuro ?(?:parenchymal|pericardial) (?:\w+ )?(?:scar\w*|thickening|changes?)",
        r"fibrothorax",
        r"apical (?:capping|thickening|caps?)",
    ),
    "Fracture": (
        r"fractur\w+",
        r"(?:compression|wedge) deformit(?:y|ies)",
        r"(?:vertebral|wedge|anterior) (?:body )?(?:compression|wedging)(?: deformit(?:y|ies))?",
    ),
    "Support_Devices": (
        _DEVICE,
        _LINE,
        r"tubes?",
        r"lines? (?:and|or|/) tubes?",
        r"lines",
        r"piccs?",
        r"(?:\w+ )?catheters?",
        r"(?:mediport|port ?a ?cath|portacath|chemoport|infusaport|permacath|port)s?",
        r"pace ?makers?|pacers?|pacing (?:device|leads?|wires?|system)",
        r"(?:a?icd|defibrillator|cardioverter)s?(?: (?:leads?|wires?))?",
        r"(?:generator|leads?)",
        r"(?:sternotomy|sternal|cerclage|pacing|epicardial|fixation|median) wires?|wires",
        r"sternal sutures?",
        r"swan ?ganz|swan",
        r"(?:aortic )?balloon pump|iabp|ecmo|lvad|impella",
        r"tracheostom(?:y|ies)",
        r"(?:nasal )?cannulas?",
        r"drains?",
        r"stents?",
        r"(?:prosthetic|mechanical|bioprosthetic|artificial) (?:\w+ )?valves?",
        r"(?:aortic|mitral|tricuspid|pulmonic|heart|cardiac) valves? (?:replacements?|prosthes[ie]s|repairs?)",
        r"(?:valve|valvular) (?:replacements?|prosthes[ie]s)|tavr",
        r"(?:support|monitoring|implanted|implantable|cardiac|medical|stimulator|assist|closure|life support|recorder) (?:and (?:monitoring|support) )?(?:devices?|apparatus|equipment|hardware)",
        r"devices?",
        r"loop recorder|nerve stimulator|stimulator",
        r"hardware",
        r"(?:fusion|pedicle|fixation|surgical) (?:rods?|screws?|plates?)",
        r"(?:embolization )?coils?",
        r"dobb? ?hoff",
        r"pigtail",
        r"(?:ivc|caval) filter",
    ),
}

_HINTS: dict[str, tuple[str, ...]] = {
    "Atelectasis": (r"volume loss|loss of (?:lung )?volume",),
    "Effusion": (
        rf"{_BLUNT} (?:of )?(?:{_SIDE}){{0,4}}{_ANGLE}",
        rf"{_ANGLE} (?:(?:is|are|remains?|appears?|slightly|mildly|minimally|both) )*{_BLUNT}",
        rf"(?:costo ?phrenic|cp) (?:angle|sulcus) {_BLUNT}",
    ),
    "Mass": (r"mass ?like",),
    "Lung_Lesion": (r"mass ?like",),
}

_BESIDE = (
    r"(?:(?:and|/|,|or|hilar|hila|vascular|pulmonary|aortic|mediastinal|cardiac|heart|pleural|"
    r"superior|great|vessel) ){0,6}"
)
_BOTH = r"(?:cardio ?mediastin(?:al|um)|cardiac mediastinal|cardio ?vascular)"
_SHAPE = (
    r"(?:silhouettes?|contours?|structures?|outlines?|shadows?|sizes?|configurations?|diameters?|"
    r"widths?|borders?)"
)
_HEART = rf"(?:cardiac|heart|cardio ?pericardial) {_BESIDE}{_SHAPE}"
_STRUCTURES: dict[str, tuple[str, ...]] = {
    "Cardiomegaly": (
        _HEART,
        r"hearts?",
        rf"{_BOTH} {_BESIDE}{_SHAPE}",
        r"cardio ?mediastinum",
    ),
    "Enlarged_Cardiomediastinum": (
        r"(?:superior )?mediastinum",
        r"cardio ?mediastinum",
        rf"(?:cardio ?)?mediastinal {_BESIDE}{_SHAPE}",
        rf"cardio ?vascular {_SHAPE}",
        r"pericardial silhouettes?",
    ),
}

# What looks like a mention and is none, by finding; masked before its patterns are read.
_OTHER: dict[str, tuple[str, ...]] = {
    "Cardiomegaly": (
        r"(?:left|right) heart borders?",
        r"heart (?:failure|disease|valves?|transplant\w*|surgery|rate|borders? (?:is|are) obscured)",
        r"(?:behind|overlying|overlies|over|obscur\w+|adjacent to|near) (?:the )?(?:\w+ )?heart",
        r"cardiac (?:silhouette )?(?:and )?(?:border|apex)",
    ),
    "Effusion": (r"pericardial (?:effusions?|fluid)", r"(?:joint|knee|elbow) effusions?"),
    "Mass": (
        r"mass effect",
        r"body mass",
        r"(?:breast|abdominal|renal|thyroid|adrenal|liver|neck) mass(?:es)?",
    ),
    "Emphysema": (
        r"(?:subcutaneous|soft tissue|mediastinal|chest wall|interstitial|subcutaneous soft tissue)"
        r"(?: and (?:\w+ ){1,2})? emphysema",
        r"subcutaneous (?:\w+ ){0,3}emphysema",
    ),
    "Fibrosis": (r"cystic fibrosis", r"pleural fibrosis"),
    "Atelectasis": (
        r"(?:vertebral|vertebra|compression|spinal|endplate) (?:body )?collapse",
        r"cardiovascular collapse",
    ),
    "Edema": (
        r"(?:soft tissue|peripheral|subcutaneous|leg|pedal|extremity|body wall|lower extremity|"
        r"ankle|pitting|cerebral) edema",
        r"(?:nasal|sinus) congestion",
    ),
    "Pneumonia": (r"(?:urinary|wound|skin|sinus|line) (?:tract )?infections?",),
    "Lung_Opacity": (
        r"(?:surgical|skin|incision\w*|post ?operative|sternotomy) scars?",
        r"pleural scar(?:s|ring)?",
        r"contrast opaci\w+",
        r"interstitial edema",
        r"(?:normal|unremarkable|clear) (?:\w+ )?interstitium",
        r"metallic (?:\w+ )?(?:opacit\w+|densit\w+)",
        r"(?:soft tissue|bone|bony|osseous|metallic|calcific|breast) densit\w+",
    ),
    "Lung_Lesion": (
        r"(?:mass|masslike) effect",
        r"body mass",
        r"(?:breast|abdominal|renal|thyroid|adrenal|liver|neck|prostate|colon|bone|bony|osseous|"
        r"skeletal) (?:mass(?:es)?|cancer|carcinoma|neoplasm|tumors?|metasta\w+)",
        r"tumor markers?",
    ),
    "Nodule": (r"thyroid nod\w+",),
    "Support_Devices": (
        r"(?:fracture|kerley|septal|pleural|skin|fissure|midclavicular|midline|paraspinal|"
        r"paratracheal|mid|axillary|suture|staple|junction|azygoesophageal|in|first) lines?",
        r"(?:pleural|kerley b|septal|paraspinal|skin|fat|curvilinear|suture) lines",
        r"line of", r"lines? of", r"(?:report|dictat\w+) (?:\w+ )?devices?",
        r"kerley (?:\w+ )?lines?",
        r"drains? into",
        r"leads? to",
        r"support the",
        r"line placement|tube placement$",
    ),
    "Fracture": (r"fracture lines?",),
}  # fmt: skip

Findings = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mention:
    """Words that name a finding: ``start`` to ``end`` in a sentence's normal form."""

    finding: str
    kind: Kind
    start: int
    end: int


def _join(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<= )(?:{'|'.join(patterns)})(?= )")


_VOCABULARIES: tuple[tuple[Kind, dict[str, tuple[str, ...]]], ...] = (
    ("finding", _FINDINGS),
    ("hint", _HINTS),
    ("structure", _STRUCTURES),
)
_PATTERNS: tuple[tuple[str, Kind, re.Pattern[str]], ...] = tuple(
    (label, kind, _join(vocabulary[label]))
    for kind, vocabulary in _VOCABULARIES
    for label in LABELS
    if label in vocabulary
)
_MASKS = {label: _join(patterns) for label, patterns in _OTHER.items()}


def find_mentions(sentence: str) -> list[Mention]:
    """Return every mention in a sentence's normal form, longest of each place, in order."""
    found: list[Mention] = []
    for label, kind, pattern in _PATTERNS:
        text = sentence
        if label in _MASKS:
            text = _MASKS[label].sub(lambda m: "#" * len(m.group()), text)
        for match in pattern.finditer(text):
            mention = Mention(label, kind, match.start(), match.end())
            if not any(_inside(mention, other) for other in found):
                found.append(mention)
    return sorted(found, key=lambda m: (m.start, m.finding))


def _inside(mention: Mention, other: Mention) -> bool:
    """A structure inside a finding's own words ("enlargement of the heart") says no more."""
    return (
        mention.finding == other.finding and other.start < mention.end and mention.start < other.end
    )
