"""The whole table, room by room."""

from __future__ import annotations

from tests.attacks import admission, codec, on_chain, sealing, the_sum
from tests.attacks.case import Case

TABLE: tuple[Case, ...] = (
    *codec.CASES,
    *sealing.CASES,
    *admission.CASES,
    *on_chain.CASES,
    *the_sum.CASES,
)
