"""The whole table, room by room."""

from __future__ import annotations

from tests.attacks import codec, sealing
from tests.attacks.case import Case

TABLE: tuple[Case, ...] = (*codec.CASES, *sealing.CASES)
