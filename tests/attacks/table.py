"""The whole table, room by room."""

from __future__ import annotations

from tests.attacks import admission, budget, codec, on_chain, sealing, the_sum, views
from tests.attacks.case import Case

TABLE: tuple[Case, ...] = (
    *codec.CASES,
    *sealing.CASES,
    *admission.CASES,
    *on_chain.CASES,
    *the_sum.CASES,
    *views.CASES,
    *budget.CASES,
)
