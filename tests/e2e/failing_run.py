"""A run of six hospitals of which four fail, each in its own way, in every round; its own process.

Flower's engine and Ray start processes and open sockets of their own, so the test keeps them out
of pytest. Prints one line of JSON: each round's outcome, accepted and failed hospitals.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from server.results import RoundResult
from simulation.attackers import faulty_client_app
from simulation.progress import Steps
from simulation.run import prepared, run_flower
from simulation.settings import Settings

FAULTS = {0: "raise", 2: "die", 3: "hang", 5: "rubbish"}
TIMEOUT = 90
HUNG = 8.0


def main(out: Path) -> None:
    """Run two rounds with the faults and say how each ended."""
    settings = Settings(
        patients=60, size=32, learner="cnn", learner_options={"width": 8}, hospitals=6, rounds=2,
        commit_window=300, attest_window=120, cpus=2, hospital_timeout=TIMEOUT, share_cap=1.0,
        min_accepted=0.1, epsilon=0.0,
    )  # fmt: skip
    results: list[RoundResult] = []
    with prepared(settings, out, Steps(quiet=True)):
        run_flower(settings, out, results.append, hospitals=faulty_client_app(out, HUNG, FAULTS))
    rows = [
        {
            "outcome": result.outcome.name,
            "accepted": len(result.accepted),
            "failed": len(result.failed),
        }
        for result in results
    ]
    sys.stdout.write(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
