"""Bags of words and multi-label vectors."""

from __future__ import annotations

import numpy as np
import pytest

from client.data.labeller.aggregate import label_report
from client.data.labeller.vectorise import (
    KEPT,
    STOP_WORDS,
    finding_vectors,
    label_vectors,
    text_vectoriser,
    words,
)
from client.data.records import FINDINGS
from ledger.errors import ConfigError, DataError


def test_stop_words_keep_what_negates_or_hedges() -> None:
    assert not STOP_WORDS & KEPT
    assert {"no", "not", "without", "may", "cannot", "or"} <= KEPT
    assert {"the", "is", "of", "xxxx"} <= STOP_WORDS


def test_words_of_the_reading_only() -> None:
    report = "INDICATION: Cough. FINDINGS: The effusion is not 12 mm, XXXX w/o PTX."
    assert words(report) == ["effusion", "not", "mm", "without", "pneumothorax"]


def test_text_vectors_keep_a_negation_apart() -> None:
    vectoriser = text_vectoriser("counts")
    vectors = vectoriser.fit_transform(["No effusion.", "Effusion."]).toarray()
    assert list(vectoriser.get_feature_names_out()) == ["effusion", "no", "no effusion"]
    np.testing.assert_array_equal(vectors, [[1, 1, 1], [1, 0, 0]])
    rows = text_vectoriser().fit_transform(["No effusion.", "Small edema."]).toarray()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)


def test_text_vectoriser_refuses() -> None:
    with pytest.raises(ConfigError, match="1 to 3"):
        text_vectoriser(longest=4)


def test_finding_strings() -> None:
    vectors = finding_vectors(["Effusion|Edema", "No Finding", "", "Pleural Effusion"], FINDINGS)
    assert vectors.dtype == np.int8
    assert vectors.shape == (4, 14)
    assert [[FINDINGS[i] for i in np.flatnonzero(row)] for row in vectors] == [
        ["Effusion", "Edema"],
        [],
        [],
        ["Effusion"],
    ]
    assert finding_vectors([], FINDINGS).shape == (0, 14)


def test_finding_strings_refused() -> None:
    with pytest.raises(DataError, match="row 2"):
        finding_vectors(["Edema", "Edema|Gout"], FINDINGS)
    with pytest.raises(DataError, match="beside No Finding"):
        finding_vectors(["Edema|No Finding"], FINDINGS)
    with pytest.raises(ConfigError, match="twice"):
        finding_vectors([], ["Effusion", "Pleural Effusion"])


def test_label_vectors() -> None:
    reports = [label_report("Possible effusion. No edema."), label_report("Hernia.")]
    vectors = label_vectors(reports, ["Pleural Effusion", "Edema", "Hernia"])
    np.testing.assert_array_equal(vectors, [[-2, 0, -1], [-1, -1, 1]])
