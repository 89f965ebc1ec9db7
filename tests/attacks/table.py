"""The whole table, room by room, and the rows of the catalogue that are proved elsewhere."""

from __future__ import annotations

from tests.attacks import (
    admission,
    auditing,
    budget,
    codec,
    lying,
    on_chain,
    parts,
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
    *parts.CASES,
    *lying.CASES,
    *views.CASES,
    *budget.CASES,
    *auditing.CASES,
)

ELSEWHERE: tuple[tuple[str, str, str], ...] = (
    (
        "event_disagrees_with_state",
        "EventMismatch",
        "tests/ledger/test_audit.py::test_event_disagrees_with_state",
    ),
    (
        "proof_swapped",
        "BundleInvalid",
        "tests/ledger/test_audit.py::test_proof_swapped",
    ),
    (
        "input_order_shuffled",
        "(same digest)",
        "tests/ledger/test_audit.py::test_input_order_shuffled",
    ),
    (
        "patient_with_many_images",
        "(one image a draw)",
        "tests/client/privacy/test_dpsgd.py::test_a_patient_with_many_images_gives_one_a_draw",
    ),
    (
        "infinite_gradient",
        "(counts as zero)",
        "tests/client/privacy/test_dpsgd.py::test_an_infinite_gradient_counts_as_zero",
    ),
    (
        "infinite_sum",
        "NonFiniteGradient",
        "tests/client/privacy/test_dpsgd.py::test_a_sum_that_is_not_finite_refuses_the_step",
    ),
    (
        "small_cohort",
        "CohortTooSmall",
        "tests/client/privacy/test_private_trainer.py::test_it_is_refused_before_anything_is_charged",
    ),
    (
        "accountant_of_another_federation",
        "PolicyError",
        "tests/client/privacy/test_accountant.py::test_another_federation_s_rounds_are_not_free",
    ),
    (
        "batchnorm_model",
        "UnsupportedModule",
        "tests/client/privacy/test_dpsgd.py::test_modules_that_couple_samples_are_refused",
    ),
    (
        "cross_sample_loss",
        "CoupledSamples",
        "tests/client/privacy/test_dpsgd.py::test_a_loss_that_couples_samples_is_caught",
    ),
    (
        "crash_between_each_step",
        "(same bytes)",
        "tests/faults/test_faults.py::test_crash_between_each_step",
    ),
)
"""Rows that need torch or a byte-level bundle: name, error, the test (``path::function``)."""

NOT_BUILT: tuple[tuple[str, str], ...] = ()
"""Rows of the catalogue whose room does not exist yet: never silently dropped."""
