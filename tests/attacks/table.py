"""The whole table, room by room, and the rows of the catalogue that are proved elsewhere."""

from __future__ import annotations

from tests.attacks import (
    admission,
    auditing,
    budget,
    codec,
    on_chain,
    sealing,
    the_sum,
    views,
)
from tests.attacks.case import Case

TABLE: tuple[Case, ...] = (
    *codec.CASES,
    *sealing.CASES,
    *admission.CASES,
    *on_chain.CASES,
    *the_sum.CASES,
    *views.CASES,
    *budget.CASES,
    *auditing.CASES,
)

ELSEWHERE: tuple[tuple[str, str, str], ...] = (
    ("event_disagrees_with_state", "EventMismatch", "tests/ledger/test_audit.py"),
    ("proof_swapped", "BundleInvalid", "tests/ledger/test_audit.py"),
    ("input_order_shuffled", "(same digest)", "tests/ledger/test_audit.py"),
    ("patient_with_many_images", "(one image a draw)", "tests/client/privacy/test_dpsgd.py"),
    ("infinite_gradient", "NonFiniteGradient", "tests/client/privacy/test_dpsgd.py"),
    ("batchnorm_model", "UnsupportedModule", "tests/client/privacy/test_dpsgd.py"),
    ("cross_sample_loss", "CoupledSamples", "tests/client/privacy/test_dpsgd.py"),
    ("crash_between_each_step", "(same bytes)", "tests/faults/test_faults.py"),
)
"""Rows that need torch or a byte-level bundle: name, error, where they are run."""

NOT_BUILT: tuple[tuple[str, str], ...] = ()
"""Rows of the catalogue whose room does not exist yet: never silently dropped."""
