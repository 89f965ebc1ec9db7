"""Free-text radiology reports and finding strings become multi-label vectors.

The path of a report: ``sections`` keeps what the radiologist read and drops why the film was
taken, ``sentences`` splits and normalises, ``phrases`` finds mentions, ``scope`` decides whether
each is stated, ruled out or uncertain, ``aggregate`` makes one label a finding. ``vectorise``
gives the paper's bag of words, ``openi`` reads Indiana University's XML, ``sources`` any other
form of reports, and ``evaluate`` compares labels with those of a reader.
"""
