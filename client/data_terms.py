"""How a federation's radiographs are prepared and labelled: terms every hospital must share.

A model trained on films of one preprocessing and scored on films of another, or on findings in
another order, is wrong without an error. So the terms stand in every round's configuration, whose
digest is on the chain, and beside every hospital's own data. A hospital compares the two and
refuses before it spends or trains anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ledger.canonical import canonical_json, parse_json
from ledger.errors import CodecError, DataError, DataMismatch, PolicyViolation

FIELDS: Final = frozenset({"findings", "preprocessing", "uncertain"})
MAX_FINDINGS: Final = 256
MAX_NAME: Final = 100
MAX_STEPS: Final = 64
MAX_BYTES: Final = 1 << 16


@dataclass(frozen=True, kw_only=True)
class DataTerms:
    """What the model's outputs mean and what its inputs went through.

    Attributes:
        findings: names of the model's outputs, in their order.
        preprocessing: every parameter of ``client.data.pipeline.Preprocessing``.
        uncertain: what an uncertain label became (``client.data.uncertainty.Policy``).
    """

    findings: tuple[str, ...]
    preprocessing: Mapping[str, object]
    uncertain: str = "ignore"

    def to_config(self) -> dict[str, object]:
        """Return the terms as JSON values; ``from_config`` inverts it."""
        return {
            "findings": list(self.findings),
            "preprocessing": dict(self.preprocessing),
            "uncertain": self.uncertain,
        }

    @classmethod
    def from_config(cls, value: object) -> DataTerms | None:
        """Read the ``data`` of a round's configuration; None where it says nothing.

        Raises:
            PolicyViolation: an unknown or missing field, or a wrong type.
        """
        if value is None:
            return None
        if not isinstance(value, dict) or set(value) != FIELDS:
            raise PolicyViolation(f"the configuration's data terms are {sorted(FIELDS)}")
        findings, steps = value["findings"], value["preprocessing"]
        if not isinstance(findings, list) or not all(map(_is_name, findings)):
            raise PolicyViolation("the configuration's findings are not a list of names")
        if not 0 < len(findings) <= MAX_FINDINGS or len(set(findings)) != len(findings):
            raise PolicyViolation("the configuration's findings are none, too many or named twice")
        if not isinstance(steps, dict) or not 0 < len(steps) <= MAX_STEPS:
            raise PolicyViolation("the configuration's preprocessing is not a table of parameters")
        if not all(_is_name(name) and _is_plain(each) for name, each in steps.items()):
            raise PolicyViolation("a preprocessing parameter is not a plain value")
        if not _is_name(value["uncertain"]):
            raise PolicyViolation("the configuration's uncertainty policy is not a name")
        return cls(findings=tuple(findings), preprocessing=steps, uncertain=value["uncertain"])

    def to_bytes(self) -> bytes:
        """Return canonical JSON, as it lies beside a hospital's data."""
        return canonical_json(self.to_config())

    @classmethod
    def from_bytes(cls, data: bytes) -> DataTerms | None:
        """Read what ``to_bytes`` wrote; no bytes are no terms.

        Raises:
            DataError: they are not terms.
        """
        if not data:
            return None
        try:
            return cls.from_config(parse_json(data, MAX_BYTES))
        except (CodecError, PolicyViolation) as error:
            raise DataError(
                f"how the hospital's data were prepared is unreadable: {error}"
            ) from None


def check_data(own: DataTerms | None, config: Mapping[str, object]) -> None:
    """Refuse a round whose data terms are not those of the hospital's own data.

    Args:
        own: how this hospital's data were prepared; None if nothing is known of it.
        config: the round's configuration.

    Raises:
        PolicyViolation: the round's terms are malformed.
        DataMismatch: they differ; the sentence names the first difference.
    """
    asked = DataTerms.from_config(config.get("data"))
    if asked == own:
        return
    if own is None or asked is None:
        silent = "this hospital's data do" if own is None else "the round does"
        raise DataMismatch(f"{silent} not say which findings and preprocessing are meant")
    for name in sorted(FIELDS):
        mine, theirs = getattr(own, name), getattr(asked, name)
        if name == "preprocessing" and mine != theirs:
            step = min(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key))
            name, mine, theirs = f"preprocessing {step}", mine.get(step), theirs.get(step)  # noqa: PLW2901 - narrowed to what differs
        elif name == "findings" and mine != theirs:
            mine, theirs = _difference(mine, theirs)
        if mine != theirs:
            raise DataMismatch(f"the round's {name}: {theirs!r}; this hospital's data: {mine!r}")


def _difference(mine: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, str]:
    """Return the first place where two lists of findings part, as words."""
    longest = max(len(mine), len(theirs))
    for place in range(longest):
        pair = [names[place] if place < len(names) else "(none)" for names in (mine, theirs)]
        if pair[0] != pair[1]:
            return f"output {place} is {pair[0]}", f"output {place} is {pair[1]}"
    return "", ""


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME


def _is_plain(value: object) -> bool:
    if isinstance(value, bool | int):
        return True
    return _is_name(value) or (isinstance(value, float) and math.isfinite(value))
