"""Where an audit writes down what it checked: a count of what held, and what did not.

The count matters as much as the findings: an audit that checked nothing must not look clean.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ledger.errors import ThoracleError
from ledger.facts import Finding, Level, Severity

MAX_FINDINGS = 1000
"""More than this are counted, not kept: a hostile record must not fill the memory."""


def shown(value: object) -> str:
    """Return a value as an auditor reads it: digests in hexadecimal, long text shortened."""
    if isinstance(value, bytes):
        text = "0x" + value.hex()
    elif isinstance(value, tuple | list):
        text = "[" + ", ".join(shown(item) for item in value) + "]"
    else:
        text = str(value)
    return text if len(text) <= 400 else f"{text[:400]}… ({len(text)} characters)"


@dataclass
class Book:
    """Collects checks of one level after the other."""

    level: Level = "chain"
    findings: list[Finding] = field(default_factory=list)
    passed: Counter[tuple[Level, str]] = field(default_factory=Counter)
    dropped: int = 0

    def check(
        self,
        holds: bool,
        check: str,
        sentence: str,
        *,
        expected: object = "",
        found: object = "",
        error: type[ThoracleError],
        round: int = 0,  # noqa: A002 - the protocol's word
        hospital: str = "",
        severity: Severity = "failure",
    ) -> bool:
        """Count a check that holds, or write down the finding; returns ``holds``.

        Args:
            holds: what was found out.
            check: short stable name, counted in the report (``head chain``).
            sentence: what does not hold, for a person.
            expected: what the audit computed.
            found: what the record says.
            error: class that the finding carries.
            round: number of the round concerned; 0: none.
            hospital: EIP-55 address concerned, or "".
            severity: ``failure`` unless what is wrong harms no statement of the audit.
        """
        if holds:
            self.passed[self.level, check] += 1
            return True
        finding = Finding(
            level=self.level,
            round=round,
            hospital=hospital,
            check=check,
            expected=shown(expected),
            found=shown(found),
            error=error.__name__,
            sentence=sentence,
            severity=severity,
        )
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)
        else:
            self.dropped += 1
        return False

    def equal(
        self,
        expected: object,
        found: object,
        check: str,
        sentence: str,
        *,
        error: type[ThoracleError],
        round: int = 0,  # noqa: A002
        hospital: str = "",
        severity: Severity = "failure",
    ) -> bool:
        """Check that what the record says is what the audit computed."""
        return self.check(
            expected == found,
            check,
            sentence,
            expected=expected,
            found=found,
            error=error,
            round=round,
            hospital=hospital,
            severity=severity,
        )

    def note(
        self,
        check: str,
        sentence: str,
        *,
        error: type[ThoracleError],
        round: int = 0,  # noqa: A002
        hospital: str = "",
        found: object = "",
        severity: Severity = "note",
    ) -> None:
        """Write down something worth knowing that fails nothing."""
        self.check(
            False,
            check,
            sentence,
            found=found,
            error=error,
            round=round,
            hospital=hospital,
            severity=severity,
        )
