"""What looks like a mention and is none, by finding; masked before its terms are read."""

from __future__ import annotations

MASKED: dict[str, tuple[str, ...]] = {
    "Cardiomegaly": (
        r"(?:left|right) heart borders?",
        (
            r"heart (?:failure|disease|valves?|transplant\w*|surgery|rate|borders? (?:is|are) "
            r"obscured)"
        ),
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
        (r"(?:subcutaneous|soft tissue|mediastinal|chest wall|interstitial)"
        r"(?: and (?:\w+ ){1,2})? emphysema"),
        r"subcutaneous (?:\w+ ){0,3}emphysema",
    ),
    "Fibrosis": (r"cystic fibrosis", r"pleural fibrosis"),
    "Atelectasis": (
        r"(?:vertebral|vertebra|compression|spinal|endplate) (?:body )?collapse",
        r"cardiovascular collapse",
    ),
    "Edema": (
        (r"(?:soft tissue|peripheral|subcutaneous|leg|pedal|extremity|body wall|lower extremity|"
        r"ankle|pitting|cerebral) edema"),
        r"(?:nasal|sinus) congestion",
    ),
    "Pneumonia": (
        r"(?:radiation|hypersensitivity|chemical) pneumonitis",
        r"(?:urinary|wound|skin|sinus|line) (?:tract )?infections?",
        r"(?:granulomatous|fungal|prior|old|remote|previous|healed) (?:\w+ )?infections?",
    ),
    "Lung_Opacity": (
        r"(?:surgical|skin|incision\w*|post ?operative|sternotomy) scars?",
        r"pleural scar(?:s|ring)?",
        r"crowd(?:ed|ing) (?:of )?(?:the )?(?:\w+ )?(?:\w+ )?markings",
        r"contrast opaci\w+",
        r"interstitial edema",
        r"(?:normal|unremarkable|clear) (?:\w+ )?interstitium",
        r"metallic (?:\w+ )?(?:opacit\w+|densit\w+)",
        r"(?:soft tissue|bone|bony|osseous|metallic|calcific|breast) densit\w+",
    ),
    "Lung_Lesion": (
        r"(?:mass|masslike) effect",
        r"body mass",
        (r"(?:metastatic )?(?:breast|abdominal|renal|thyroid|adrenal|liver|neck|prostate|colon|"
        r"bone|bony|osseous|skeletal) "
        r"(?:mass(?:es)?|cancer|carcinoma|neoplasm|tumors?|metasta\w+)"),
        r"tumor markers?",
    ),
    "Nodule": (r"thyroid nod\w+",),
    "Support_Devices": (
        (r"(?:fracture|kerley|septal|pleural|skin|fissure|midclavicular|midline|paraspinal|"
        r"paratracheal|mid|axillary|suture|staple|junction|azygoesophageal|in|first) lines?"),
        r"(?:pleural|kerley b|septal|paraspinal|skin|fat|curvilinear|suture) lines",
        r"line of", r"lines? of", r"(?:report|dictat\w+) (?:\w+ )?devices?",
        r"kerley (?:\w+ )?lines?",
        r"drains? into",
        r"leads? to",
        r"support the",
        r"line placement|tube placement$",
    ),
    "Fracture": (
        r"fracture lines?",
        r"(?:catheter|leads?|wires?|screws?|hardware|tube|line) (?:\w+ ){0,2}fractur\w+",
        r"fractured (?:\w+ ){0,3}(?:catheter|leads?|wires?|screws?|hardware|tube|line)",
    ),
}  # fmt: skip
