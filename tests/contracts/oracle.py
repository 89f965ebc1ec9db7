"""The contract once more, in plain Python: the rounds, on top of the members.

Written from the interface's text, not from the contract's code; see ``oracle_members``.
"""

from __future__ import annotations

from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from ledger.statement import (
    BASIS,
    COMMIT_TAG,
    MAX_WEIGHT,
    Kind,
    Mechanism,
    Unit,
    beacon_of,
    norm_cap,
)
from tests.contracts.oracle_members import (
    ATTESTING,
    COMMITTING,
    IDLE,
    MAX_WINDOW,
    NEVER,
    QUORUM_ONLY,
    SUM_VERIFIED,
    Events,
    Hospital,
    LiveRound,
    MemberOracle,
    Refused,
)

MECHANISM_TYPE = "(uint40,uint32,uint32,uint32,uint40,bytes32)"


def _share(whole: int, share: int) -> int:
    """Return the smallest part that is at least this share of the whole, and never nothing."""
    return max(1, -(-whole * share // BASIS))


class Oracle(MemberOracle):
    """The whole contract."""

    # ---- the round ----

    def openRound(  # noqa: N802
        self,
        sender: str,
        time: int,
        head: bytes,
        base: bytes,
        config: bytes,
        key: bytes,
        norm_bound: int,
        commit_window: int,
        attest_window: int,
    ) -> Events:
        """See ``IAggregationLedger.openRound``."""
        if sender != self.coordinator:
            raise Refused("NotCoordinator", sender)
        if self.round.phase != IDLE:
            raise Refused("RoundLive", self.round.number)
        if head != self.head:
            raise Refused("HeadMismatch", self.head, head)
        if base != self.model:
            raise Refused("ParentMismatch", self.model, base)
        if norm_bound == 0:
            raise Refused("InvalidArgument", "normBound")
        if not max(1, self.rules.min_commit_window) <= commit_window <= MAX_WINDOW:
            raise Refused("InvalidArgument", "commitWindow")
        if not 1 <= attest_window <= MAX_WINDOW:
            raise Refused("InvalidArgument", "attestWindow")
        roster = {
            name: hospital.weight
            for name, hospital in self.hospitals.items()
            if hospital.registered and hospital.active_until == NEVER
        }
        if not roster:
            raise Refused("InvalidArgument", "roster")
        weight_cap = sum(roster.values()) * self.rules.share_cap // BASIS
        weight_cap = min(max(weight_cap, 1), MAX_WEIGHT)
        self.round = LiveRound(
            number=self.round.number + 1,
            phase=COMMITTING,
            opened_at=time,
            commit_deadline=time + commit_window,
            attest_window=attest_window,
            weight_cap=weight_cap,
            norm_bound=norm_bound,
            roster=frozenset(roster),
            roster_weight=sum(min(weight, weight_cap) for weight in roster.values()),
            proposed_head=self.round.proposed_head,
            proposed_model=self.round.proposed_model,
        )
        values = {
            "round": self.round.number,
            "baseModel": base,
            "configDigest": config,
            "keyDigest": key,
            "normBound": norm_bound,
            "commitDeadline": self.round.commit_deadline,
            "attestWindow": attest_window,
            "weightCap": weight_cap,
            "rosterCount": len(roster),
            "rosterWeight": self.round.roster_weight,
        }
        types = ["uint32"] + ["bytes32"] * 3
        types += ["uint40", "uint40", "uint32", "uint24", "uint8", "uint32"]
        advanced = self.advance(Kind.OPENED, types, list(values.values()))
        self.round.open_head = self.head
        return [*advanced, ("RoundOpened", values | {"openHead": self.head})]

    def closeCommits(self, sender: str, time: int, number: int) -> Events:  # noqa: N802
        """See ``IAggregationLedger.closeCommits``."""
        if sender != self.coordinator:
            raise Refused("NotCoordinator", sender)
        current = self._in_phase(number, COMMITTING)
        if time >= current.commit_deadline:
            raise Refused("CommitWindowClosed", number, current.commit_deadline, time)
        earliest = current.opened_at + self.rules.min_commit_window
        if time < earliest:
            raise Refused("CommitWindowOpen", number, earliest, time)
        current.commit_deadline = time
        return [("CommitsClosed", {"round": number, "closedAt": time})]

    def commit(
        self,
        sender: str,
        time: int,
        open_head: bytes,
        seal: bytes,
        opening: bytes,
        mechanism: tuple[Any, ...],
    ) -> Events:
        """See ``IAggregationLedger.commit``."""
        hospital = self._enrolled(sender)
        current = self.round
        if current.number >= hospital.active_until:
            raise Refused("MemberRevoked", sender, hospital.active_until)
        if current.number < hospital.active_from:
            raise Refused("NotMember", sender)
        if current.phase == IDLE:
            raise Refused("RoundClosed", current.number)
        if current.phase != COMMITTING:
            raise Refused("WrongPhase", current.phase)
        if time >= current.commit_deadline:
            raise Refused("CommitWindowClosed", current.number, current.commit_deadline, time)
        if open_head != current.open_head:
            raise Refused("HeadMismatch", current.open_head, open_head)
        if sender in current.committed:
            raise Refused("AlreadyCommitted", sender, current.number)
        self._charge(hospital, mechanism)
        current.committed.add(sender)
        hospital.commit_hash = keccak(
            encode(
                ["bytes32", "bytes32", "uint32", "address", "bytes32", "bytes32", MECHANISM_TYPE],
                [
                    COMMIT_TAG,
                    self.rules.federation_id,
                    current.number,
                    sender,
                    seal,
                    opening,
                    mechanism,
                ],
            )
        )
        arguments = {
            "round": current.number,
            "hospital": sender,
            "seat": hospital.seat,
            "sealDigest": seal,
            "openingDigest": opening,
            "weight": self._effective(sender),
            "mechanism": mechanism,
        }
        return [("Committed", arguments)]

    def propose(
        self,
        sender: str,
        time: int,
        number: int,
        sum_digest: bytes,
        model_digest: bytes,
        accepted: int,
        refused: int,
        reasons: bytes,
        probes: bytes,
    ) -> Events:
        """See ``IAggregationLedger.propose``."""
        if sender != self.coordinator:
            raise Refused("NotCoordinator", sender)
        current = self._in_phase(number, COMMITTING)
        if time < current.commit_deadline and len(current.committed) < len(current.roster):
            raise Refused("CommitWindowOpen", number, current.commit_deadline, time)
        committed = self._bitmap(current.committed)
        if accepted | refused != committed or accepted & refused:
            raise Refused("CommitUnaccounted", committed, accepted, refused)
        if len(reasons) != refused.bit_count() or not all(reasons):
            raise Refused("InvalidArgument", "reasons")
        chosen = self._by_seat({n for n in current.committed if accepted >> self._seat(n) & 1})
        self._check_turnout(chosen)
        rows = self._probe_rows(chosen, probes)
        totals = [
            sum(self._effective(name) * row[j] for name, row in zip(chosen, rows, strict=True))
            for j in range(16)
        ]
        packed = b"".join(total.to_bytes(16, "big", signed=True) for total in totals)
        beacon = beacon_of(
            federation_id=self.rules.federation_id,
            round=number,
            sum_digest=sum_digest,
            model_digest=model_digest,
            accepted=accepted,
            commit_hashes=[self.hospitals[name].commit_hash for name in chosen],
        )
        current.phase = ATTESTING
        current.accepted = set(chosen)
        current.accepted_weight = sum(map(self._effective, chosen))
        current.attest_deadline = time + current.attest_window
        current.proposed_model = model_digest
        values = {
            "round": number,
            "sumDigest": sum_digest,
            "modelDigest": model_digest,
            "beacon": beacon,
            "accepted": accepted,
            "refused": refused,
            "acceptedWeight": current.accepted_weight,
        }
        tail = [keccak(part) for part in (reasons, probes, packed)]
        head = self.advance(
            Kind.PROPOSED,
            ["uint32"]
            + ["bytes32"] * 3
            + ["uint64"] * 2
            + ["uint32", "uint40", "uint40"]
            + ["bytes32"] * 4,
            [
                *values.values(),
                current.commit_deadline,
                current.attest_deadline,
                *tail,
                self._commits_digest(),
            ],
        )
        current.proposed_head = self.head
        values |= {"attestDeadline": current.attest_deadline, "reasons": reasons}
        return [*head, ("Proposed", values | {"probes": probes, "totals": packed})]

    def attest(self, sender: str, time: int, number: int, head: bytes) -> Events:
        """See ``IAggregationLedger.attest``."""
        current = self._answering(sender, time, number)
        if sender not in current.accepted:
            raise Refused("NotAccepted", sender, number)
        if sender in current.attested | current.against:
            raise Refused("AlreadyAnswered", sender, number)
        if head != current.proposed_head:
            raise Refused("HeadMismatch", current.proposed_head, head)
        current.attested.add(sender)
        return [("Attested", {"round": number, "hospital": sender, "proposedHead": head})]

    def dissent(self, sender: str, time: int, number: int, code: int) -> Events:
        """See ``IAggregationLedger.dissent``."""
        current = self._answering(sender, time, number)
        if sender not in current.accepted:
            raise Refused("NotAccepted", sender, number)
        return self._oppose("Dissented", sender, code)

    def contest(self, sender: str, time: int, number: int, code: int) -> Events:
        """See ``IAggregationLedger.contest``."""
        current = self._answering(sender, time, number)
        if sender not in current.committed - current.accepted:
            raise Refused("NotRefused", sender, number)
        return self._oppose("Contested", sender, code)

    def finalise(self, _sender: str, time: int, number: int) -> Events:
        """See ``IAggregationLedger.finalise``."""
        current = self._in_phase(number, ATTESTING)
        verdict = self._verdict(time)
        if verdict is None:
            bitmaps = self._bitmap(current.accepted), self._bitmap(current.attested)
            raise Refused("AttestationsMissing", *bitmaps)
        current.phase = IDLE
        self.model = current.proposed_model
        values = {
            "round": number,
            "outcome": verdict[0],
            "model": self.model,
            "attested": self._bitmap(current.attested),
            "against": self._bitmap(current.against),
            "unattestedWeight": verdict[1],
        }
        types = ["uint32", "uint8", "bytes32", "uint64", "uint64", "uint32"]
        head = self.advance(Kind.FINALISED, types, list(values.values()))
        return [*head, ("Finalised", values)]

    def abort(self, sender: str, time: int, number: int) -> Events:
        """See ``IAggregationLedger.abort``."""
        current = self.round
        if number != current.number or current.phase == IDLE:
            raise Refused("RoundClosed", number)
        if current.phase == COMMITTING:
            deadline = current.commit_deadline + current.attest_window
            if sender != self.coordinator and time < deadline:
                raise Refused("DeadlineNotPassed", deadline, time)
        elif self._verdict(time) is not None:
            raise Refused("RoundFinalisable", number)
        elif not current.against & current.accepted and time < current.attest_deadline:
            raise Refused("DeadlineNotPassed", current.attest_deadline, time)
        phase, current.phase = current.phase, IDLE
        bitmaps = [self._bitmap(s) for s in (current.committed, current.attested, current.against)]
        digest = self._commits_digest()
        head = self.advance(
            Kind.ABORTED,
            ["uint32", "uint8", "uint40", "uint64", "uint64", "uint64", "bytes32"],
            [number, phase, current.commit_deadline, *bitmaps, digest],
        )
        names = ("round", "phase", "committed", "attested", "against", "commitsDigest")
        return [
            *head,
            ("RoundAborted", dict(zip(names, (number, phase, *bitmaps, digest), strict=True))),
        ]

    # ---- views ----

    def last_round(self) -> tuple[Any, ...]:
        """Return what ``lastRound()`` must return."""
        r = self.round
        deadline = r.attest_deadline if r.attest_deadline else r.attest_window
        return (
            r.number, r.phase, r.commit_deadline, deadline, r.weight_cap, r.norm_bound,
            len(r.roster), r.roster_weight, r.accepted_weight, self._bitmap(r.committed),
            self._bitmap(r.accepted), self._bitmap(r.attested), self._bitmap(r.against),
            r.open_head, r.proposed_head, r.proposed_model,
        )  # fmt: skip

    def member(self, name: str) -> tuple[Any, ...]:
        """Return what ``member(name)`` must return."""
        h = self._enrolled(name)
        return (
            h.seat, h.registered, h.weight, h.cap, h.spent, h.active_from, h.active_until,
            h.commit_hash,
        )  # fmt: skip

    # ---- rules behind several calls ----

    def _charge(self, hospital: Hospital, mechanism: tuple[Any, ...]) -> None:
        if self.rules.privacy_unit is Unit.NONE:
            if mechanism != Mechanism().abi():
                raise Refused("InvalidArgument", "mechanism")
            return
        if mechanism[0] <= hospital.spent:
            raise Refused("BudgetNotCharged", hospital.spent, mechanism[0])
        if mechanism[0] > hospital.cap:
            raise Refused("BudgetExceeded", hospital.cap, mechanism[0])
        hospital.spent = mechanism[0]

    def _check_turnout(self, chosen: list[str]) -> None:
        current = self.round
        weight = sum(map(self._effective, chosen))
        committed_weight = sum(map(self._effective, current.committed))
        of_commits = self.rules.min_accepted_of_commits
        of_members = self.rules.min_accepted_of_members
        for part, whole, share in (
            (len(chosen), len(current.committed), of_commits),
            (len(chosen), len(current.roster), of_members),
            (weight, committed_weight, of_commits),
            (weight, current.roster_weight, of_members),
        ):
            if part < _share(whole, share):
                raise Refused("TooFewAccepted", part, _share(whole, share))

    def _probe_rows(self, chosen: list[str], probes: bytes) -> list[list[int]]:
        if len(probes) != 128 * len(chosen):
            raise Refused("InvalidArgument", "probes")
        cap = norm_cap(self.round.norm_bound)
        rows = []
        for i, name in enumerate(chosen):
            words = [probes[128 * i + 8 * j : 128 * i + 8 * j + 8] for j in range(16)]
            rows.append([int.from_bytes(word, "big", signed=True) for word in words])
            squares = 12 * sum(t * t for t in rows[-1])
            if squares > cap:
                raise Refused("NormCapExceeded", self._seat(name), squares, cap)
        return rows

    def _verdict(self, time: int) -> tuple[int, int] | None:
        current = self.round
        silent = sum(map(self._effective, current.accepted - current.attested))
        if current.accepted == current.attested:
            return SUM_VERIFIED, 0
        allowed = self.rules.max_silent_share * current.accepted_weight
        over = time >= current.attest_deadline and not current.accepted & current.against
        if over and self.rules.max_silent_share and silent * BASIS <= allowed:
            return QUORUM_ONLY, silent
        return None

    def _answering(self, sender: str, time: int, number: int) -> LiveRound:
        self._enrolled(sender)
        current = self._in_phase(number, ATTESTING)
        if time >= current.attest_deadline:
            raise Refused("AttestWindowClosed", number, current.attest_deadline, time)
        return current

    def _oppose(self, event: str, sender: str, code: int) -> Events:
        current = self.round
        if sender in current.attested | current.against:
            raise Refused("AlreadyAnswered", sender, current.number)
        if code == 0:
            raise Refused("InvalidArgument", "code")
        current.against.add(sender)
        return [(event, {"round": current.number, "hospital": sender, "code": code})]

    def _in_phase(self, number: int, phase: int) -> LiveRound:
        if number != self.round.number or self.round.phase == IDLE:
            raise Refused("RoundClosed", number)
        if self.round.phase != phase:
            raise Refused("WrongPhase", self.round.phase)
        return self.round

    def _effective(self, name: str) -> int:
        return min(self.hospitals[name].weight, self.round.weight_cap)

    def _commits_digest(self) -> bytes:
        hashes = [self.hospitals[name].commit_hash for name in self._by_seat(self.round.committed)]
        return keccak(b"".join(hashes))
