"""The vocabularies themselves, a pattern a line, over the normal form of ``sentences.normal``.

What belongs to which finding is decided and sourced in ``phrases``; here are the words.
"""

from __future__ import annotations

_SIDE = r"(?:left|right|bilateral|both|the|lateral|posterior|anterior|minimal|slight|mild) "
_BLUNT = r"(?:blunt(?:ed|ing)|obscur(?:ed|ation|ing)|obliterat(?:ed|ion))"
_ANGLE = r"(?:costo ?phrenic|cp|lateral|posterior) (?:angles?|sulc(?:us|i)|recess(?:es)?|xxxx)"
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
_MARKINGS = (
    r"(?:markings?|patterns?|prominence|thickening|changes|abnormalit(?:y|ies)|densit(?:y|"
    r"ies)|lung disease|disease|process(?:es)?)"
)
_MORE = (
    r"(?:increased?|prominent|prominence|coarse|coarsened|coarsening|accentuat\w+|thickened|"
    r"thickening|diffuse|chronic|exaggerated|abnormal)"
)
_PLAIN = r"(?:bronchovascular|bronchial|lung|parenchymal|bronchopulmonary|pulmonary|vascular)"
_DEVICE = (
    r"(?:chest|endotracheal|et|ng|og|nasogastric|orogastric|enteric|feeding|dobb? ?hoff|"
    r"tracheostomy|thoracostomy|pleural|nasoenteric|gastrostomy|gastric|drainage|support|"
    r"monitoring|esophageal|intestinal|g|j|pigtail|trach|mediastinal) tubes?"
)
_LINE = (
    r"(?:central|venous|picc|ij|jugular|subclavian|femoral|dialysis|arterial|support|monitoring|"
    r"access|cv|vascular|infusion|indwelling|iv) lines?"
)

STATED: dict[str, tuple[str, ...]] = {
    "Atelectasis": (
        r"(?:micro)?atelec\w+",
        r"atalec\w+",
        (
            r"(?:lobar |lobe |lung |segmental |partial |complete )?collaps(?:e|ed|ing)(?! of "
            r"(?:the )?(?:\w+ )?(?:vertebra\w*|[tl]\d+))"
        ),
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
        r"fluid (?:\w+ ){1,5}(?:pleural spaces?|fissures?)|fissural fluid",
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
        r"pneumonitis",
    ),
    "Pneumothorax": (
        r"(?:hydro|hemo|pyo)?pneumothora(?:x|ces|cis|xes)",
        r"pneumothorac\w+",
        r"pleural (?:(?:or|and) mediastinal )?air(?: collections?)?",
    ),
    "Consolidation": (r"consolida\w+",),
    "Edema": (
        r"edema(?:tous)?",
        r"(?:congestive |cardiac )?(?:heart|cardiac) failure",
        r"(?:cardiac|left ventricular|lv) (?:decompensation|failure)",
        (
            r"(?:cardio)?(?:pulmonary |vascular |venous |hilar |interstitial |central |"
            r"perihilar |lung )+congestion"
        ),
        r"congestive (?:changes?|failure|pattern)",
        r"congestion",
        r"decompensat(?:ion|ed)",
        (
            r"(?:vascular|venous|vessel|pulmonary) (?:engorgement|indistinctness|"
            r"redistribution|cephalization)"
        ),
        (
            r"(?:engorged|engorgement of|indistinct|indistinctness of|congested|prominen(?:t|"
            r"ce) of|prominent) (?:the )?(?:\w+ ){0,3}(?:vasculature|vascularity|vessels|"
            r"vasculatures)"
        ),
        (
            r"(?:vasculature|vascularity|vessels) (?:is|are|remains?|appears?) (?:\w+ "
            r"){0,2}(?:engorged|congested|indistinct|prominent|cephalized)"
        ),
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
        (
            r"pleural (?:parenchymal )?(?:effusions?|fluid|plaques?|scar(?:ring)?)"
            r" (?:and|or|versus|/) (?:or )?(?:\w+ )?thickening"
        ),
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
        (
            r"(?:(?:air ?space|alveolar|interstitial lung) (?:disease|process(?:es)?|"
            r"abnormalit(?:y|ies)|changes?)|parenchymal (?:disease|process(?:es)?))"
        ),
        r"ground glass",
        r"haz(?:e|y|iness)",
        r"(?:interstitial|reticular|reticulonodular|septal) " + _MARKINGS,
        rf"{_MORE} (?:\w+ ){{0,2}}{_PLAIN} markings?",
        rf"{_PLAIN} markings? (?:(?:is|are|remains?|appears?|\w+ly) ){{0,3}}{_MORE}",
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
        (
            r"(?:cavitary|lung|pulmonary|parenchymal|mass like|spiculated|cavitating|"
            r"intrapulmonary|cystic) (?:\w+ )?lesions?"
        ),
        (
            r"lesions? (?:in|within|at|of) (?:the )?(?:\w+ ){0,3}(?:lungs?|lobes?|ap(?:ex|"
            r"ices)|lingula|bases?)"
        ),
        r"cavitation|cavities",
    ),
    "Pleural_Other": (
        (
            r"(?:pleural|fissural|pleura) (?:\w+ )?(?:thickening|plaques?|scar(?:ring|s)?|"
            r"calcifications?|plaquing|fibrosis|reaction|based lesions?|nodularity|"
            r"irregularity)"
        ),
        r"(?:calcified|pleural) plaques?",
        r"thicken(?:ing|ed) (?:of )?(?:the )?(?:\w+ ){0,2}(?:pleura|fissures?)",
        (
            r"pleural (?:parenchymal )?(?:effusions?|fluid|plaques?|scar(?:ring)?)"
            r" (?:and|or|versus|/) (?:or )?(?:\w+ )?thickening"
        ),
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
        (
            r"(?:aortic|mitral|tricuspid|pulmonic|heart|cardiac) valves? (?:replacements?|"
            r"prosthes[ie]s|repairs?)"
        ),
        r"(?:valve|valvular) (?:replacements?|prosthes[ie]s)|tavr",
        (
            r"(?:support|monitoring|implanted|implantable|cardiac|medical|stimulator|assist|"
            r"closure|life support|recorder) (?:and (?:monitoring|support) )?(?:devices?|"
            r"apparatus|equipment|hardware)"
        ),
        r"devices?",
        r"loop recorder|nerve stimulator|stimulator",
        r"hardware",
        r"(?:fusion|pedicle|fixation|surgical) (?:rods?|plates?)|screws?",
        r"(?:metal\w*|bone|orthopedic|compression|side) plates?|plates? and screws?",
        r"(?:\w+ )?arthroplast(?:y|ies)|prosthes[ie]s",
        r"(?:embolization )?coils?",
        r"dobb? ?hoff",
        r"pigtail",
        r"(?:ivc|caval) filter",
    ),
}

HINTED: dict[str, tuple[str, ...]] = {
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
STRUCTURES: dict[str, tuple[str, ...]] = {
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
