"""Proposals, rebuilt from events: beacon, totals, norm caps and turnout, all computed again.

The beacon comes from the commits, the totals from the probes and the ledger's own weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_utils.crypto import keccak

from ledger.errors import (
    CommitUnaccounted,
    CommitWindowOpen,
    InvalidArgument,
    NormCapExceeded,
    TooFewAccepted,
)
from ledger.facts import Event
from ledger.replica_round import RoundBase, RoundHistory
from ledger.statement import (
    BASIS,
    PROBES,
    Kind,
    Phase,
    Proposal,
    beacon_of,
    norm_cap,
    seats_of,
)


@dataclass(kw_only=True)
class ProposalPhase(RoundBase):
    """Follows ``Proposed``."""

    def proposed(self, event: Event) -> None:
        """``Proposed``: every commit once, enough accepted, beacon, totals and norm caps."""
        self.by_coordinator(event)
        live = self.in_phase(event, Phase.COMMITTING)
        if live is None:
            return
        args, number = event.args, live.opening.round
        all_in = len(live.commits) >= live.opening.roster_count
        self.check(
            event.time >= live.commit_deadline or all_in,
            "proposed after window",
            f"round {number} was proposed while hospitals could still commit",
            CommitWindowOpen,
        )
        accepted, refused = args["accepted"], args["refused"]
        reasons = bytes(args["reasons"])
        covered = accepted | refused == live.committed and not accepted & refused
        self.check(
            covered and len(reasons) == refused.bit_count() and all(reasons),
            "every commit once",
            f"the proposal of round {number} does not account for every commit exactly once",
            CommitUnaccounted,
            expected=f"{live.committed:b}",
            found=f"{accepted:b} accepted, {refused:b} refused, {len(reasons)} reasons",
        )
        weight = live.weight_of(accepted)
        self._turnout(live, accepted)
        proposal = self._sums(event, live, accepted, reasons)
        self.equal(
            (weight, event.time + live.opening.attest_window),
            (args["acceptedWeight"], args["attestDeadline"]),
            "accepted weight",
            f"round {number} records another accepted weight or deadline than its commits give",
        )
        live.proposal, live.phase = proposal, Phase.ATTESTING
        federation = self.rules.federation_id
        values = [
            *(args[k] for k in ("round", "sumDigest", "modelDigest", "beacon", "accepted")),
            *(refused, args["acceptedWeight"], live.commit_deadline, args["attestDeadline"]),
            *(keccak(bytes(args[k])) for k in ("reasons", "probes", "totals")),
            keccak(b"".join(live.hashes(live.committed, federation))),
        ]
        types = ["uint256", *["bytes32"] * 3, *["uint256"] * 5, *["bytes32"] * 4]
        self.heads.record(event, Kind.PROPOSED, types, values, number)
        live.proposed_head = self.heads.head

    def _turnout(self, live: RoundHistory, accepted: int) -> None:
        count, weight = accepted.bit_count(), live.weight_of(accepted)
        of_commits, of_members = (
            self.rules.min_accepted_of_commits,
            self.rules.min_accepted_of_members,
        )
        for part, whole, share in (
            (count, len(live.commits), of_commits),
            (count, live.opening.roster_count, of_members),
            (weight, live.weight_of(live.committed), of_commits),
            (weight, live.opening.roster_weight, of_members),
        ):
            self.check(
                part >= max(-(-whole * share // BASIS), 1),
                "minimum acceptance",
                "fewer updates were accepted than the federation's rules ask for",
                TooFewAccepted,
                expected=max(-(-whole * share // BASIS), 1),
                found=part,
            )

    def _sums(
        self, event: Event, live: RoundHistory, accepted: int, reasons: bytes
    ) -> Proposal | None:
        """Recompute beacon, totals and norm caps; return the proposal."""
        args, seats = event.args, seats_of(accepted)
        packed, totals = bytes(args["probes"]), bytes(args["totals"])
        shaped = len(packed) == len(seats) * PROBES * 8 and len(totals) == PROBES * 16
        sentence = "the proposal's probes or totals are not 16 integers a hospital"
        if not self.check(shaped, "probes shape", sentence, InvalidArgument):
            return None
        values = [
            int.from_bytes(packed[i : i + 8], "big", signed=True) for i in range(0, len(packed), 8)
        ]
        probes = {s: tuple(values[i * PROBES : (i + 1) * PROBES]) for i, s in enumerate(seats)}
        known = {s: live.commits[s].weight for s in seats if s in live.commits}
        expected = tuple(sum(w * probes[s][j] for s, w in known.items()) for j in range(PROBES))
        found = tuple(
            int.from_bytes(totals[i : i + 16], "big", signed=True) for i in range(0, 256, 16)
        )
        self.equal(
            expected,
            found,
            "weighted totals",
            "the recorded totals T are not the weighted sums of the recorded probes",
        )
        beacon = beacon_of(
            federation_id=self.rules.federation_id,
            round=live.opening.round,
            sum_digest=args["sumDigest"],
            model_digest=args["modelDigest"],
            accepted=accepted,
            commit_hashes=live.hashes(accepted, self.rules.federation_id),
        )
        self.equal(
            beacon,
            args["beacon"],
            "beacon",
            "the recorded beacon does not follow from sum, model and commits",
        )
        cap = norm_cap(live.opening.norm_bound)
        for seat in known:
            squares = 12 * sum(t * t for t in probes[seat])
            who = live.commits[seat].hospital
            self.check(
                squares <= cap,
                "norm cap",
                f"the probes of {who} show a contribution over the norm cap",
                NormCapExceeded,
                who,
                expected=f"at most {cap}",
                found=squares,
            )
        return Proposal(
            round=live.opening.round,
            sum_digest=args["sumDigest"],
            model_digest=args["modelDigest"],
            beacon=beacon,
            accepted=accepted,
            refused=args["refused"],
            accepted_weight=args["acceptedWeight"],
            attest_deadline=args["attestDeadline"],
            reasons=dict(zip(seats_of(args["refused"]), reasons, strict=False)),
            probes=probes,
            totals=expected,
        )
