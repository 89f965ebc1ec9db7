"""The words that negate, hedge, excuse or qualify a mention, as patterns over the normal form.

The kinds are those of NegEx (Chapman et al., J Biomed Inform 2001): pseudo-cues that look like a
negation and are none, cues before and cues after the mention, and words that end a cue's reach;
CheXpert's labeler (Irvin et al., AAAI 2019) adds that uncertainty is read before negation. The
lists are our own.
"""

from __future__ import annotations

import re

_ADVERB = r"(?:\w+ly |well |any |even |longer |otherwise |currently )"
_CHANGE = (
    r"(?:change[ds]?|changing|worsen\w*|increase[ds]?|decrease[ds]?|improve\w*|progress\w*|"
    r"differen\w+|alter\w+)"
)
_HOW = (
    r"(?:significant|substantial|interval|appreciable|relevant|large|larger|major|marked|"
    r"definite|great|obvious|clear|real|notable|considerable|further|gross|overall|short|term|"
    r"convincing|acute|important|measurable|evidence|of|other|dramatic|material) "
)
_BE = r"(?:is|are|was|were|be|been|being|has been|have been|had been)"
_SEEN = (
    r"(?:seen|identified|present|visuali[sz]ed|visible|appreciated|evident|demonstrated|noted|"
    r"detected|found|apparent|observed|shown|suggested|suspected|imaged|discerned|recogni[sz]ed|"
    r"displayed|confirmed|delineated|discernible|appreciable|delineable|encountered|there|"
    r"in evidence|demonstrable|identifiable|detectable|displaced|depicted)"
)
_PARTLY = r"(?:nearly|almost|partially|partly|near|incompletely|mostly|largely|essentially|slowly) "


def whole(*patterns: str) -> re.Pattern[str]:
    """Compile alternatives that match whole words of a normal form."""
    return re.compile(rf"(?<= )(?:{'|'.join(patterns)})(?= )")


PSEUDO = whole(
    rf"(?:no|not|without|nor) (?:{_HOW}){{0,4}}{_CHANGE}(?: (?:in|of|since|from))?",
    rf"(?:has|have|is|are|was|were) not {_ADVERB}{{0,2}}{_CHANGE}",
    r"not (?:only|certain|necessarily|well (?:seen|visualized|evaluated|assessed|characterized))",
    (
        r"no (?:prior|previous|comparison|old|recent) (?:\w+ )?(?:stud(?:y|ies)|films?|exams?|"
        r"images?|examinations?|radiographs?)"
    ),
    rf"(?:{_PARTLY}|near )(?:complete |completely )?resol\w+(?: of)?",
    (
        r"(?:near|partial|incomplete|slow|some|gradual|continued|ongoing) (?:complete |"
        r"interval )?(?:resolution|resolving|clearing)(?: of)?"
    ),
    (
        r"(?:document|ensure|confirm|assure|verify|until) (?:\w+ ){0,2}(?:resolution|clearing|"
        r"clearance)(?: of)?"
    ),
    r"to (?:complete )?(?:resolution|clearing)(?: of)?",
    r"age indeterminate|indeterminate age|indeterminate in age",
    r"(?:has|have) not (?:\w+ )?(?:resolved|cleared)",
    r"not (?:\w+ )?(?:resolved|cleared)",
    r"no doubt",
    (
        rf"not {_ADVERB}{{0,2}}{_SEEN} (?:previously|before|then|(?:on|in|at) (?:the )?(?:\w+ "
        r")?(?:prior|previous|earlier|old|last|comparison|preceding|older))"
    ),
    r"no (?:longer )?(?:mistaken|reason)",
    r"without (?:the )?(?:use|contrast)",
    r"not (?:fully |entirely |completely )?(?:include[ds]?|imaged)",
)
"""Looks like a negation and negates nothing; masked before other cues are read."""

UNCHANGED = whole(
    rf"(?:no|not|without|nor) (?:{_HOW}){{0,4}}{_CHANGE} (?:in|of|from)",
    rf"(?:un|un ?){_CHANGE}",
)
"""Says that all that follows is as it was."""

UNCERTAIN_BEFORE = whole(
    (
        r"(?:cannot|could not|can not|not possible to|unable to|difficult to|hard to|"
        r"impossible to|may not|does not|do not|would not) (?:\w+ly )?(?:be )?(?:rule out|"
        r"exclude|excluding|exclude the possibility of)"
    ),
    r"(?:does|do|would|is|are) not (?:\w+ )?(?:exclude|rule out)",
    r"not (?:\w+ly )?(?:exclude[ds]?|excluding|ruled? out)",
    r"(?:rule|rules|ruling) out|(?:to|and) exclude|excluding",
    (
        r"(?:may|might|could|can|would) (?:\w+ly |also |all |well |simply )?(?:represent|"
        r"reflect|be|indicate|suggest|relate|correspond|have|signify|mask|obscure|include|"
        r"contain|hide|mean|mimic|simulate|result|account)(?:ing)?(?: (?:due to|related to|"
        r"secondary to|from|seen (?:with|in)|(?:associated|consistent|compatible) with|caused "
        r"by|the result of|a|an))?"
    ),
    r"(?:possib\w+|poss)(?: of| that)?",
    (
        r"(?:probabl[ey]|likely|presumabl[ey]|presumed|presumptive|conceivabl[ey]|possibly|"
        r"potential(?:ly)?|perhaps|maybe|plausible|putative|apparent)"
        r"(?: (?:on the basis of|(?:due|secondary|related|attributable) to))?"
    ),
    r"suspicio\w*(?: for| of)?|suspect\w*(?: for)?",
    r"(?:concern\w*|worrisome|worry|worrying) (?:for|of|about|regarding|is|raised for|that)",
    (
        r"(?:raising|raises?|raised) (?:\w+ ){0,3}(?:concern|possibility|question|"
        r"suspicion)(?: (?:for|of))?"
    ),
    r"question(?:able|ably|ed|ing)?(?: of)?|equivocal|indeterminate|borderline|\?",
    r"(?:suggest\w*|suggestive|indicative)(?: of| for| that)?",
    r"(?:favor\w*|in favor of)",
    r"consider(?:ed|ation of|ation for|ing)?",
    r"(?:less|more|most) (?:\w+ )?likely|unlikely(?: to (?:be|represent|reflect))?",
    r"either|versus|alternatively",
    r"(?:compatible|consistent) with (?:possible|either|suspected)",
    r"correlat\w+ (?:\w+ ){0,2}(?:for|(?:with|as to) (?:\w+ ){0,5}(?:signs?|symptoms?)(?: of)?)",
    (
        r"(?:if|whether|should) (?:\w+ ){0,6}?(?:concern|suspicion|suspected|concerned)(?: "
        r"(?:for|of|about))?"
    ),
    (
        r"(?:low|high|strong|moderate|clinical) (?:suspicion|concern|probability|index of "
        r"suspicion)(?: (?:for|of))?"
    ),
    r"(?:doubt|doubtful)(?: for)?",
    (
        r"think\w*|thought to (?:be|represent|reflect)|felt to (?:be|represent|reflect)|"
        r"believed to (?:be|represent)"
    ),
    r"(?:early|developing|evolving|impending) (?:or|versus|/)",
    r"cannot (?:\w+ ){0,3}(?:differentiat\w+|distinguish\w*)(?: from)?",
    r"(?:not|rather) specific for|nonspecific for",
    r"(?:mimic\w*|simulat\w+)",
    r"(?:high|low) likelihood(?: of)?",
    r"if (?:an?|any|there (?:is|are))",
)
"""Hedges what follows."""

UNCERTAIN_LIST = whole(
    (
        r"(?:differential|ddx|diagnos[ei]s|considerations?)(?: (?:diagnos[ei]s|"
        r"considerations?|possibilit\w+))?(?: (?:would|should|could|may))? ?(?:includ\w+|for|"
        r"of|consider\w*|is|are|:)?"
    ),
)
"""Hedges every item of the list that follows."""

UNCERTAIN_AFTER = whole(
    (
        r"(?:(?:is|are|was|were) )?(?:cannot|can not|could not|may not|not) (?:\w+ly )?(?:be "
        r")?(?:\w+ly )?(?:excluded|ruled out)"
    ),
    (
        r"(?:cannot|difficult to|hard to|impossible to|unable to) (?:\w+ly )?(?:exclude|rule "
        r"out|assess|evaluate)(?= $| [,;]| in | on | given | due | because )"
    ),
    (
        r"(?:is|are|was|were|remains?) (?:\w+ly |also |still |both |all |not )?(?:possib\w+|"
        r"probable|likely|suspected|questioned|questionable|suggested|considered|presumed|"
        r"uncertain|equivocal|(?:a |in the )?(?:\w+ )?(?:considerations?|possibilit(?:y|ies)|"
        r"differential|concern)|unlikely|less likely|more likely|favored|of concern|doubtful|"
        r"doubted|thought (?:less |more )?likely|felt (?:less |more )?likely|not certain|"
        r"conceivable|indeterminate|raised|in question)(?: (?:present|seen|there))?(?= $| "
        r"[,;]| in | on | at | given | but | and | as | however | with | based )"
    ),
    r"(?:would|will|may) (?:also )?(?:have|need) to be (?:considered|excluded)",
    (
        r"(?:should|could|can|may|might|must|would) (?:also |\w+ly )?be (?:considered|present|"
        r"suspected|there|seen|excluded|due to technique|a consideration|possible|entertained|"
        r"raised|developing|missed|overlooked|hidden|accounted|artifact\w*|projectional)"
    ),
    (
        r"(?:possible|suspected|questioned|favored|unlikely|less likely|less favored|not "
        r"favored)(?= [,;]| $)"
    ),
    r"\?(?= $| [,;])|not well (?:seen|visualized|evaluated|assessed|characterized)",
    r"would be (?:difficult|hard) to (?:exclude|see|detect)",
    r"(?:is|are) (?:on|in) the differential",
    r"(?:slightly |somewhat )?(?:favored|more likely) (?:over|than|versus)",
    r"if (?:any|present|real|there is any)",
)
"""Hedges what stands before."""

NEGATION_BEFORE = whole(
    rf"not {_ADVERB}{{0,2}}{_SEEN} (?:is|are)",
    r"no|without|neither|nor|never|none of|denies|denied",
    (
        r"(?:absence|absent|lack|lacks|lacking|free|devoid|clear|cleared|clearance|clearing|"
        r"negatives?|exclusion|empty) (?:of|for)"
    ),
    r"(?:resolution|disappearance|removal|withdrawal|regression) (?:of|from)",
    r"rather than|instead of|as opposed to|and not|but not|unremarkable for|absent|lacks|lacking",
    r"(?:fails?|failed|failure) to (?:show|reveal|demonstrate|identify)",
)
"""Negates what follows, through a list."""

NEGATION_NEAR = whole(
    rf"not(?! {_ADVERB}{{0,2}}{_SEEN})",
    (
        r"(?<!has )(?<!have )(?<!is )(?<!are )(?<!been )(?<!ly )(?<!now )(?<!had )(?:resolved|"
        r"removed)(?= \w)"
    ),
)
"""Negates what follows, up to a comma."""


NEGATION_AFTER = whole(
    (
        rf"(?:(?:{_BE}|can|could|does|do|did|has|have) )?(?:not|no longer|never|nowhere) "
        rf"{_ADVERB}{{0,3}}(?:be |been )?{_ADVERB}{{0,2}}{_SEEN}"
    ),
    (
        r"(?:has|have|had|is|are) (?:since |now |completely |\w+ly |been )*(?:resolved|"
        r"cleared|disappeared|absent|gone|excluded|ruled out|removed|withdrawn|reexpanded|"
        r"reabsorbed|resorbed|extracted|discontinued|explanted|negative)"
    ),
    (
        r"(?<!resolving )(?:now |since |completely |fully )?(?:resolved|absent|removed|"
        r"cleared)(?= [,;.]| $| since| from| and| in the interim| compared)"
    ),
    r"(?:: |- |, )(?:no|none|absent|negative|nil)(?= $| [,;])",
    r"(?:none|nil)(?= $| [,;])",
    r"no longer(?= $| [,;])",
    r"is not(?= $| [,;])",
    r"(?:resolves|clears|disappears)",
    r"removal(?= $| [,;])",
)
"""Negates what stands before."""

CONTEXT_BEFORE = whole(
    (
        r"(?:to |for )?(?:the )?(?:evaluate|evaluation|evaluating|evaluated|assess|assessment|"
        r"assessing|check|looking|look|screen|screening|screened|surveillance|eval|search)(?: "
        r"(?:\w+ )?for)"
    ),
    r"(?:history|histories|hx|h o) (?:significant )?(?:of|for|:)|known history|history",
    r"(?:treated|treatment|therapy|admitted|presents?|presenting|presented) (?:for|with)",
    r"(?:indication|clinical question|reason for (?:exam|study))(?: (?:is|for))?",
    (
        r"(?:performed|obtained|requested|ordered|done|exam|study|ct|imaging) (?:for|to) "
        r"(?:the )?(?:evaluation|assessment|follow up|monitoring|evaluate|assess)(?: of)?"
    ),
    (
        r"(?:prior|previous|earlier|outside|old) (?:\w+ ){1,4},? ?(?:which|that|where|when) "
        r"(?:\w+ )?(?:demonstrated|showed|described|revealed|had|identified|noted)"
    ),
    r"(?:risk|risks|complications?) (?:of|for)",
    r"(?:year old|y o) (?:\w+ ){0,4}with|year old|y o",
    (
        r"(?:status post|sp|post|after|following|prior|previous) (?:\w+ )?(?:treatment|"
        r"resection|therapy|surgery) (?:of|for)"
    ),
    (
        r"(?:ct|mri|tomography|ultrasound|radiographs?|imaging|views?) (?:\w+ ){0,2}to "
        r"(?:evaluate|assess)(?: for)?"
    ),
)
"""Says that what follows is why the film was taken, not what is on it."""

BREAK = whole(
    r";|but|however|although|though|except(?: for)?|aside from|apart from|other than",
    r"otherwise(?! (?:\w+ly )?(?:normal|unremarkable|within|stable|unchanged))",
    r"besides|beyond|while|whereas|yet|despite|in addition to|in the setting of",
    r"there (?:is|are|was|were|has|have|remains?|may|does|appears?)",
    (
        r"(?<!consistent )(?<!compatible )(?<!keeping )(?<!associated )(?<!concerning )"
        r"with(?! regard| respect)"
    ),
    (
        r"which(?! (?:would|could|might|may|is|are) (?:suggest|indicate|represent|raise|be|"
        r"suspicious|concerning))"
    ),
    r"(?:as )?(?:seen|noted) (?:on|in) (?:the )?(?:prior|previous)",
    r"secondary to|due to|because of|status post|now|remainder|persists?|remains?(?= no )",
    r"(?<!the )following|after",
    r"again (?:seen|noted|demonstrated)",
)
"""Ends the reach of a cue before it."""

VERB = re.compile(
    r"is|are|was|were|has|have|had|remains?|appears?|seems?|persists?|demonstrates?|shows?|"
    r"represents?|reflects?|suggests?|may|might|could|can|cannot|should|would|continues?|looks?|"
    r"shows|reveals?|contains?|obscures?|projects?|terminates?"
)
"""A finite verb: a statement of its own stands around it."""
