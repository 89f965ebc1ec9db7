"""What every call costs: ``python -m tests.contracts.gas --write`` renews ``contracts/gas.json``
and the tables in the documents.

Nine hospitals, digests and probes of realistic entropy (calldata is charged by non-zero byte), the
private federation. ``later`` figures are those of any round after the first, whose slots are never
zero again; ``further_hospital`` is what a tenth hospital adds to a later round.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from typing import Any

from eth_utils.address import to_checksum_address

from contracts.artefact import ARTEFACT
from ledger.statement import Ballot, pack_probes
from tests.contracts.evm import Evm
from tests.contracts.pair import COORDINATOR, RULES, STRANGER

SNAPSHOT = ARTEFACT.with_name("gas.json")
PROBE_DEVIATION = 1_000_000 * ((2**32 - 1) / 12) ** 0.5  # of a hospital at the norm bound


class Meter:
    """One federation whose every call is metered; the dearest of equal calls counts."""

    def __init__(self, hospitals: int) -> None:
        self.random = random.Random(hospitals)
        self.names: list[str] = [
            to_checksum_address(self.random.randbytes(20)) for _ in range(hospitals)
        ]
        self.evm = Evm(RULES.abi(), COORDINATOR, self.names)
        self.costs = {"deploy": self.evm.deployment.gas_used}
        self.model = RULES.initial_model
        self.total = 0
        self.number = 0
        for name in self.names:
            self.meter("register", name, "register", 8_000_000, 0, 1024)

    def meter(self, key: str, sender: str, call: str, *arguments: Any) -> Any:
        """Send a transaction and note its cost under ``key``."""
        receipt = self.evm.send(sender, call, *arguments)
        self.costs[key] = max(self.costs.get(key, 0), receipt.gas_used)
        self.total += receipt.gas_used
        return receipt

    def digest(self) -> bytes:
        """Return 32 random bytes."""
        return self.random.randbytes(32)

    def to_proposal(self, prefix: str, refused: int = 0) -> bytes:
        """Open, commit and propose; return the head of the proposal."""
        self.number += 1
        self.total = 0
        fields = (self.evm.call("head"), self.model, self.digest(), self.digest())
        opened = self.meter(
            prefix + "open", COORDINATOR, "openRound", *fields, 1_000_000, 3600, 3600
        )
        head = opened.event("RoundOpened")["openHead"]
        for name in self.names:
            mechanism = (self.number * 250_000, 1_100_000, 12_345_678, 120, 10**7, bytes(32))
            digests = (self.digest(), self.digest())
            self.meter(prefix + "commit", name, "commit", head, *digests, mechanism)
        accepted = (1 << len(self.names)) - 1 & ~refused
        rows = [
            tuple(int(self.random.gauss(0, PROBE_DEVIATION)) for _ in range(16))
            for _ in range(accepted.bit_count())
        ]
        self.proposed = self.digest()
        fields = (self.number, self.digest(), self.proposed, accepted, refused)  # type: ignore[assignment]
        reasons = bytes([28]) * refused.bit_count()
        receipt = self.meter(
            prefix + "propose", COORDINATOR, "propose", *fields, reasons, pack_probes(rows)
        )
        return bytes(receipt.event("HeadAdvanced")["head"])

    def whole_round(self, prefix: str) -> int:
        """Carry a round through; return what all its transactions cost."""
        head = self.to_proposal(prefix)
        for name in self.names:
            self.meter(prefix + "attest", name, "attest", self.number, head)
        self.meter(prefix + "finalise", STRANGER, "finalise", self.number)
        self.model = self.proposed
        return self.total

    def rest(self) -> None:
        """Meter what an undisturbed round does not call."""
        self.to_proposal("refusing_", refused=1)
        self.meter("dissent", self.names[1], "dissent", self.number, 40)
        self.meter("contest", self.names[0], "contest", self.number, 44)
        self.meter("abort", STRANGER, "abort", self.number)
        self.meter("set_weight", self.names[0], "setWeight", 2048)
        self.meter("lower_cap", self.names[0], "lowerCap", 7_000_000)
        for name in self.names[:5]:
            self.meter("vote", name, "vote", int(Ballot.ENROL), STRANGER)
        self.meter("enact", STRANGER, "enact", int(Ballot.ENROL), STRANGER)
        fields = (self.evm.call("head"), self.model, self.digest(), self.digest())
        self.meter("later_open", COORDINATOR, "openRound", *fields, 1_000_000, 3600, 3600)
        self.meter("close_commits", COORDINATOR, "closeCommits", self.number + 1)


def measure() -> dict[str, int]:
    """Return the cost of every call, in gas."""
    nine, ten = Meter(9), Meter(10)
    first = nine.whole_round("first_")
    later = nine.whole_round("later_")
    ten.whole_round("first_")
    further = ten.whole_round("later_") - later
    nine.rest()
    del nine.costs["refusing_open"], nine.costs["refusing_commit"]
    code = {"code_bytes": len(nine.evm.code)}
    rounds = {"first_round_of_9": first, "later_round_of_9": later, "further_hospital": further}
    return code | nine.costs | rounds


PROTOTYPE: dict[str, tuple[int | None, str | None, str | None]] = {
    "deploy": (1_430_000, "deploy", None),
    "open": (75_000, "first_open", "later_open"),
    "commit": (63_800, "first_commit", "later_commit"),
    "propose (9 hospitals)": (345_000, "first_propose", "later_propose"),
    "attest": (38_900, "first_attest", "later_attest"),
    "finalise": (None, "first_finalise", "later_finalise"),
    "whole round of nine": (1_340_000, "first_round_of_9", "later_round_of_9"),
    "each further hospital": (129_000, None, "further_hospital"),
}
"""A throw-away prototype's figures, and ours of the first and of later rounds."""
BEGIN, END = "<!-- gas: python -m tests.contracts.gas --write -->\n", "<!-- /gas -->"
DOCUMENTS = tuple(
    SNAPSHOT.parents[1] / "docs" / name for name in ("protocol.md", "adr/0002-contract.md")
)


def table(costs: dict[str, int]) -> str:
    """Return the table that the documents show."""
    lines = [
        "| call | prototype | here, first round | here, later rounds |",
        "|---|---:|---:|---:|",
    ]
    for call, (prototype, first, later) in PROTOTYPE.items():
        figures = (prototype, first and costs[first], later and costs[later])
        shown = (f"{figure:,}" if figure else "" for figure in figures)
        lines.append(f"| {call} | {' | '.join(shown)} |")
    code, deploy = costs["code_bytes"], costs["deploy"]
    lines += [
        "",
        (
            f"Of the deployment's {deploy:,} gas, {200 * code:,} store {code:,} bytes of code"
            " (200 a byte); nine founders' seats and the rounds' slots are in it too."
        ),
    ]
    return "\n".join(lines) + "\n"


def with_table(text: str, costs: dict[str, int]) -> str:
    """Return a document's text with its table renewed."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, "the document has no place for the table"
    return before + BEGIN + table(costs) + END + after


def main() -> int:
    """Print the figures, or write the snapshot."""
    parser = argparse.ArgumentParser(prog="tests.contracts.gas", description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew contracts/gas.json")
    costs = measure()
    text = json.dumps(costs, indent=1) + "\n"
    if parser.parse_args().write:
        SNAPSHOT.write_text(text, encoding="ascii")
        for document in DOCUMENTS:
            document.write_text(with_table(document.read_text("utf-8"), costs), "utf-8")
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
