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
_HOW = r"(?:significant|substantial|interval|appreciable|relevant|large|larger|major|marked|definite|great|obvious|clear|real|notable|considerable|further|gross|overall|short|term|convincing|acute|important|measurable|evidence|of|other|dramatic|material) "
_BE = r"(?:is|are|was|were|be|been|being|has been|have been|had been)"
_SEEN = (
    r"(?:seen|identified|present|visuali[sz]ed|visible|appreciated|evident|demonstrated|noted|"
    r"detected|found|apparent|observed|shown|suggested|suspected|imaged|discerned|recogni[sz]ed|"
    r"displayed|confirmed|delineated|discernible|appreciable|delineable|encountered|there|"
    r"in evidence|demonstrable|identifiable|detectable|displaced|depicted)"
)
_PARTLY = r"(?:nearly|almost|partially|partly|near|incompletely|mostly|largely|essentially|slowly) "


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile(rf"(?<= )(?:{'|'.join(patterns)})(?= )")


PSEUDO = _any(
    rf"(?:no|not|without|nor) (?:{_HOW}){{0,4}}{_CHANGE}(?: (?:in|of|since|from))?",
    rf"(?:has|have|is|are|was|were) not {_ADVERB}{{0,2}}{_CHANGE}",
    r"not (?:only|certain|necessarily|well (?:seen|visualized|evaluated|assessed|characterized))",
    r"no (?:prior|previous|comparison|old|recent) (?:\w+ )?(?:stud(?:y|ies)|films?|exams?|images?|examinations?|radiographs?)",
    rf"(?:{_PARTLY}|near )(?:complete |completely )?resol\w+(?: of)?",
    r"(?:near|partial|incomplete|slow|some|gradual|continued|ongoing) (?:complete |interval )?(?:resolution|resolving|clearing)(?: of)?",
    r"(?:document|ensure|confirm|assure|verify|until) (?:\w+ ){0,2}(?:resolution|clearing|clearance)(?: of)?",
    r"to (?:complete )?(?:resolution|clearing)(?: of)?",
    r"age indeterminate|indeterminate age|indeterminate in age",
    r"(?:has|have) not (?:\w+ )?(?:resolved|cleared)",
    r"not (?:\w+ )?(?:resolved|cleared)",
    r"no doubt",
    r"no (?:longer )?(?:mistaken|reason)",
    r"without (?:the )?(?:use|contrast)",
    r"not (?:fully |entirely |completely )?(?:include[ds]?|imaged)",
)
"""Looks like a negation and negates nothing; masked before other cues are read."""

UNCERTAIN_BEFORE = _any(
    r"(?:cannot|could not|can not|not possible to|unable to|difficult to|hard to|impossible to|may not|does not|do not|would not) (?:\w+ly )?(?:be )?(?:rule out|exclude|excluding|exclude the possibility of)",
    r"(?:does|do|would|is|are) not (?:\w+ )?(?:exclude|rule out)",
    r"not (?:\w+ly )?(?:exclude[ds]?|excluding|ruled? out)",
    r"(?:rule|rules|ruling) out|(?:to|and) exclude|excluding",
    r"(?:may|might|could|can|would) (?:\w+ly |also |all |well |simply )?(?:represent|reflect|be|indicate|suggest|relate|correspond|have|signify|mask|obscure|include|contain|hide|mean|mimic|simulate|result|account)(?:ing)?(?: (?:due to|related to|secondary to|from|seen (?:with|in)|(?:associated|consistent|compatible) with|caused by|the result of|a|an))?",
    r"(?:possib\w+|poss)(?: of| that)?",
    r"(?:probabl[ey]|likely|presumabl[ey]|presumed|presumptive|conceivabl[ey]|potential(?:ly)?|perhaps|maybe|plausible|putative|apparent)",
    r"suspicio\w*(?: for| of)?|suspect\w*(?: for)?",
    r"(?:concern\w*|worrisome|worry|worrying) (?:for|of|about|regarding|is|raised for|that)",
    r"(?:raising|raises?|raised) (?:\w+ ){0,3}(?:concern|possibility|question|suspicion)(?: (?:for|of))?",
    r"question(?:able|ably|ed|ing)?(?: of)?|equivocal|indeterminate|borderline|\?",
    r"(?:suggest\w*|suggestive|indicative)(?: of| for| that)?",
    r"(?:favor\w*|in favor of)",
    r"consider(?:ed|ation of|ation for|ing)?",
    r"(?:less|more|most) (?:\w+ )?likely|unlikely(?: to (?:be|represent|reflect))?",
    r"either|versus|alternatively",
    r"(?:compatible|consistent) with (?:possible|either|suspected)",
    r"correlat\w+ (?:clinically )?(?:for|with (?:signs|symptoms) of)",
    r"(?:if|whether|should) (?:\w+ ){0,6}?(?:concern|suspicion|suspected|concerned)(?: (?:for|of|about))?",
    r"(?:low|high|strong|moderate|clinical) (?:suspicion|concern|probability|index of suspicion)(?: (?:for|of))?",
    r"(?:doubt|doubtful)(?: for)?",
    r"think\w*|thought to (?:be|represent|reflect)|felt to (?:be|represent|reflect)|believed to (?:be|represent)",
    r"(?:early|developing|evolving|impending) (?:or|versus|/)",
    r"cannot (?:\w+ ){0,3}(?:differentiat\w+|distinguish\w*)(?: from)?",
    r"(?:not|rather) specific for|nonspecific for",
    r"(?:mimic\w*|simulat\w+)",
    r"(?:high|low) likelihood(?: of)?",
)
"""Hedges what follows."""

UNCERTAIN_LIST = _any(
    r"(?:differential|ddx|diagnos[ei]s|considerations?)(?: (?:diagnos[ei]s|considerations?|possibilit\w+))?(?: (?:would|should|could|may))? ?(?:includ\w+|for|of|consider\w*|is|are|:)?",
    r"(?:combination|mixture) of",
)
"""Hedges every item of the list that follows."""

UNCERTAIN_AFTER = _any(
    r"(?:(?:is|are|was|were) )?(?:cannot|can not|could not|may not|not) (?:\w+ly )?(?:be )?(?:\w+ly )?(?:excluded|ruled out)",
    r"(?:cannot|difficult to|hard to|impossible to|unable to) (?:\w+ly )?(?:exclude|rule out|assess|evaluate)(?= $| [,;]| in | on | given | due | because )",
    r"(?:is|are|was|were|remains?) (?:\w+ly |also |still |both |all |not )?(?:possib\w+|probable|likely|suspected|questioned|questionable|suggested|considered|presumed|uncertain|equivocal|(?:a |in the )?(?:\w+ )?(?:considerations?|possibilit(?:y|ies)|differential|concern)|unlikely|less likely|more likely|favored|of concern|doubtful|doubted|thought (?:less |more )?likely|felt (?:less |more )?likely|not certain|conceivable|indeterminate|raised|in question)(?= $| [,;]| in | on | at | given | but | and | as | however | with | based )",
    r"(?:would|will|may) (?:also )?(?:have|need) to be (?:considered|excluded)",
    r"(?:should|could|can|may|might|must|would) (?:also |\w+ly )?be (?:considered|present|suspected|there|seen|excluded|due to technique|a consideration|possible|entertained|raised|developing|accounted|artifact\w*|projectional)",
    r"(?:possible|suspected|questioned|favored|unlikely|less likely|less favored|not favored)(?= [,;]| $)",
    r"\?|not well (?:seen|visualized|evaluated|assessed|characterized)",
    r"would be (?:difficult|hard) to (?:exclude|see|detect)",
    r"(?:is|are) (?:on|in) the differential",
)
"""Hedges what stands before."""

NEGATION_BEFORE = _any(
    r"no|without|neither|nor|never|none of|denies|denied",
    r"(?:absence|absent|lack|lacks|lacking|free|devoid|clear|cleared|clearance|clearing|negatives?|exclusion|empty) (?:of|for)",
    r"(?:resolution|disappearance|removal|withdrawal|regression) (?:of|from)",
    r"rather than|instead of|as opposed to|and not|but not|unremarkable for|absent|lacks|lacking",
    r"(?:fails?|failed|failure) to (?:show|reveal|demonstrate|identify)",
)
"""Negates what follows, through a list."""

NEGATION_NEAR = _any(
    rf"not(?! {_ADVERB}{{0,2}}{_SEEN})",
    r"(?<!has )(?<!have )(?<!is )(?<!are )(?<!been )(?<!ly )(?<!now )(?<!had )(?:resolved|removed)(?= \w)",
)
"""Negates what follows, up to a comma."""


NEGATION_AFTER = _any(
    rf"(?:(?:{_BE}|can|could|does|do|did|has|have) )?(?:not|no longer|never|nowhere) {_ADVERB}{{0,3}}(?:be |been )?{_ADVERB}{{0,2}}{_SEEN}",
    r"(?:has|have|had|is|are) (?:since |now |completely |\w+ly |been )*(?:resolved|cleared|disappeared|absent|gone|excluded|ruled out|removed|withdrawn|reexpanded|reabsorbed|resorbed|extracted|discontinued|explanted|negative)",
    r"(?<!resolving )(?:now |since |completely |fully )?(?:resolved|absent|removed|cleared)(?= [,;.]| $| since| from| and| in the interim| compared)",
    r"(?:: |- |, )(?:no|none|absent|negative|nil)(?= $| [,;])",
    r"(?:none|nil)(?= $| [,;])",
    r"no longer(?= $| [,;])",
    r"is not(?= $| [,;])",
    r"(?:resolves|clears|disappears)",
)
"""Negates what stands before."""

CONTEXT_BEFORE = _any(
    r"(?:to |for )?(?:the )?(?:evaluate|evaluation|evaluating|evaluated|assess|assessment|assessing|check|looking|look|screen|screening|screened|surveillance|eval|search)(?: (?:\w+ )?for)",
    r"(?:history|histories|hx|h o) (?:significant )?(?:of|for|:)|known history|history",
    r"(?:treated|treatment|therapy|admitted|presents?|presenting|presented) (?:for|with)",
    r"(?:indication|clinical question|reason for (?:exam|study))(?: (?:is|for))?",
    r"(?:performed|obtained|requested|ordered|done|exam|study|ct|imaging) (?:for|to) (?:the )?(?:evaluation|assessment|follow up|monitoring|evaluate|assess)(?: of)?",
    r"(?:prior|previous|earlier|outside|old) (?:\w+ ){1,4},? ?(?:which|that|where|when) (?:\w+ )?(?:demonstrated|showed|described|revealed|had|identified|noted)",
    r"(?:risk|risks|complications?) (?:of|for)",
    r"year old|y o",
    r"(?:status post|sp|post|after|following|prior|previous) (?:\w+ )?(?:treatment|resection|therapy|surgery) (?:of|for)",
    r"(?:ct|mri|tomography|ultrasound|radiographs?|imaging|views?) (?:\w+ ){0,2}to (?:evaluate|assess)(?: for)?",
)
"""Says that what follows is why the film was taken, not what is on it."""

BREAK = _any(
    r";|but|however|although|though|except(?: for)?|aside from|apart from|other than|otherwise|"
    r"besides|beyond|while|whereas|yet|despite|there (?:is|are|was|were|has|have|remains?|may|does|appears?)|"
    r"(?<!consistent )(?<!compatible )(?<!keeping )(?<!associated )(?<!concerning )with(?! regard| respect)|"
    r"which(?! (?:would|could|might|may|is|are) (?:suggest|indicate|represent|raise|be|suspicious|concerning))|in addition to|in the setting of|(?:as )?(?:seen|noted) (?:on|in) (?:the )?(?:prior|previous)|"
    r"secondary to|due to|because of|status post|now|remainder|persists?|remains?(?= no)|again (?:seen|noted|demonstrated)"
)
"""Ends the reach of a cue before it."""

NORMAL = _any(
    r"normal|unremarkable|not (?:\w+ly )?(?:enlarged|widened|increased|prominent|dilated|abnormal)",
    r"no (?:\w+ ){0,2}(?:enlargement|widening|abnormalit\w+)|non ?enlarged",
    r"without (?:\w+ ){0,2}(?:enlargement|widening|abnormalit\w+)",
    r"within (?:the )?(?:\w+ )?limits(?: of normal)?|satisfactory|not (?:\w+ )?wide",
)
"""Says that a structure is of normal size."""

ENLARGED_BEFORE = _any(
    r"enlarged|enlargement|enlarging|increased?|prominent|prominence|widened|widening|wide|large|"
    r"larger|big|dilated|dilatation|dilation|broad|globular|fullness|bulky|abnormal"
)
"""Says, before a structure, that it is larger than normal."""

ENLARGED_AFTER = _any(
    r"enlarged|enlargement|enlarging|widened|widening|dilated|globular",
    r"(?:increased?|prominent|prominence|wide|large|larger|bigger|big|broad|broadened|fullness|full|"
    r"abnormal|bulky|distended)(?= $| [,;]| (?:in|and|or|but|for|with|compared|since|than|given|on|"
    r"due|as|from|size|by|which|even|despite|again|accentuated|though|although) )",
)
"""Says, after a structure, that it is larger than normal."""

VAGUE = _any(
    r"borderline|(?:at |in |near |within )?(?:the )?(?:upper|high|top) (?:limits?|range|end)?(?: of)?(?: the)?(?: normal)?|top normal|upper normal|"
    r"high normal|normal to (?:mildly |slightly |minimally )?(?:enlarged|prominent)|(?:upper )?limits of normal|"
    r"(?:accentuated|exaggerated|magnified)|(?:may|might|could) (?:also )?be|possibl[ey]|probabl[ey]|suspected|"
    r"likely|question\w*|(?:difficult|hard|unable|impossible|limited) to (?:\w+ly )?\w+|"
    r"cannot (?:be )?(?:\w+ly )?\w+|not (?:well |fully |adequately |reliably |\w+ly )?(?:assessed|evaluated|seen|"
    r"visualized|delineated|defined|measured|assessable)|suboptimally \w+|indeterminate"
)
"""Says that a structure's size is doubtful."""

STABLE = _any(
    r"stable|unchanged|similar|constant|consistent|persistent|"
    r"no (?:\w+ ){0,3}change[sd]?|not (?:\w+ly )?changed|as before|unaltered|grossly stable|"
    r"obscured|little change|without (?:\w+ )?change|silhouetted"
)
"""Compares a structure with an earlier film and says no more."""

VERB = re.compile(
    r"is|are|was|were|has|have|had|remains?|appears?|seems?|persists?|demonstrates?|shows?|"
    r"represents?|reflects?|suggests?|may|might|could|can|cannot|should|would|continues?|looks?|"
    r"shows|reveals?|contains?|obscures?|projects?|terminates?"
)
"""A finite verb: a statement of its own stands around it."""
