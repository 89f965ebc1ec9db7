"""Reports and finding strings as vectors (SS-GAN-ViT, section 4.A.2).

A report's reading sections are normalised and tokenised as for the labels, stop words are
removed, and scikit-learn counts what is left or weighs it by TF-IDF. Stop words are
scikit-learn's English list without the words that negate, hedge or compare: "no effusion" must
not become the vector of "effusion". Finding strings ("Effusion|Edema", as in NIH's table) become
multi-label vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import (
    ENGLISH_STOP_WORDS,
    CountVectorizer,
    TfidfVectorizer,
)
from sklearn.preprocessing import MultiLabelBinarizer

from client.data.labeller.phrases import NO_FINDING
from client.data.labeller.sections import reading
from client.data.labeller.sentences import split_sentences, tokens
from client.data.records import UNKNOWN
from client.data.vocabulary import canonical
from ledger.errors import ConfigError, DataError

KEPT: frozenset[str] = frozenset((
    "no", "not", "nor", "neither", "never", "none", "nothing", "without", "cannot", "cant",
    "couldnt", "hasnt", "against", "off", "out", "may", "might", "could", "can", "would",
    "should", "must", "seem", "seems", "seemed", "seeming", "perhaps", "either", "or", "if",
    "whether", "but", "however", "although", "though", "except", "rather", "instead", "versus",
    "than", "more", "most", "less", "least", "few", "much", "over", "under", "above", "below",
    "between", "both", "bilateral", "left", "right", "upper", "lower", "top", "bottom", "empty",
    "full", "again", "now", "since", "still", "until",
))  # fmt: skip
"""Words that negate, hedge, compare or locate: they carry what a report says."""

STOP_WORDS: frozenset[str] = frozenset(ENGLISH_STOP_WORDS) - KEPT | {"xxxx"}
"""Removed before vectorisation, with the mark that stands for de-identified words."""


def words(report: str) -> list[str]:
    """Return a report's tokens in order: reading sections only, normalised, no stop words."""
    return [
        token
        for text in reading(report)
        for sentence in split_sentences(text)
        for token in tokens(sentence)
        if token[0].isalpha() and token not in STOP_WORDS
    ]


def text_vectoriser(
    weighting: Literal["counts", "tfidf"] = "tfidf",
    *,
    longest: int = 2,
    max_features: int = 20_000,
    rarest: int | float = 1,
) -> CountVectorizer:
    """Return an unfitted vectoriser of whole reports.

    Args:
        weighting: term counts, or TF-IDF (scikit-learn's smoothed form, rows of unit length).
        longest: longest word sequence that is a term, 1 to 3; 2 keeps "no effusion" together.
        max_features: most terms kept, by frequency.
        rarest: least document count (int) or share (float) of a term.

    Raises:
        ConfigError: an argument is outside its range.
    """
    if not 1 <= longest <= 3 or max_features < 1:
        raise ConfigError("a term has 1 to 3 words, and at least one term is kept")
    kind = TfidfVectorizer if weighting == "tfidf" else CountVectorizer
    return kind(
        analyzer="word",
        tokenizer=words,
        token_pattern=None,
        lowercase=False,  # ``words`` lowers, after the sections' headings have been read
        ngram_range=(1, longest),
        max_features=max_features,
        min_df=rarest,
    )


def finding_vectors(strings: Iterable[str], vocabulary: Sequence[str]) -> NDArray[np.int8]:
    """Turn finding strings such as "Effusion|Edema" into multi-label vectors.

    Args:
        strings: findings joined by "|"; blank or "No Finding" states that there are none.
        vocabulary: the findings, in the order of the columns; synonyms are understood.

    Returns:
        int8 of shape (strings, vocabulary), 1 where named, else 0.

    Raises:
        ConfigError: the vocabulary names a finding twice.
        DataError: a string names a finding that is not in the vocabulary, or findings beside
            "No Finding".
    """
    wanted = [canonical(name) for name in vocabulary]
    if len(set(wanted)) != len(wanted):
        raise ConfigError("the vocabulary names a finding twice")
    rows: list[set[str]] = []
    for number, string in enumerate(strings, 1):
        named = {canonical(part) for part in string.split("|") if part.strip()}
        if NO_FINDING in named and len(named) > 1:
            raise DataError(f"row {number} names findings beside No Finding")
        named.discard(NO_FINDING)
        if named - set(wanted):
            raise DataError(f"row {number} names a finding that is not in the vocabulary")
        rows.append(named)
    if not rows:
        return np.zeros((0, len(wanted)), dtype=np.int8)
    vectors = MultiLabelBinarizer(classes=wanted).fit(rows).transform(rows)
    return np.asarray(vectors, dtype=np.int8)


def label_vectors(
    labels: Iterable[Mapping[str, int]], vocabulary: Sequence[str]
) -> NDArray[np.int8]:
    """Turn reports' labels into a matrix of 1, 0, -2 (uncertain), -1 (nothing said).

    Returns:
        int8 of shape (reports, vocabulary), as ``client.data.records`` has labels.
    """
    wanted = [canonical(name) for name in vocabulary]
    rows = [[report.get(name, UNKNOWN) for name in wanted] for report in labels]
    return np.asarray(rows, dtype=np.int8).reshape(len(rows), len(wanted))
