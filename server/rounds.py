"""The coordinator: one audited round after another, resumable after any step.

    open_round    protocol step 1: base model, configuration and keys go on the chain
    receive       step 6: ciphertexts are kept sealed; nothing is opened yet
    close         waits until the commit window has closed (or closes it, when hospitals failed)
    propose       steps 7 to 9: decide on every commit, sum, probe, propose once
    serve         step 11: S, only once the proposal is on the chain
    answered      step 12: notes what came back from the evaluate exchange
    finish        step 13: finalise, or abort and let the base stand

The chain says where the round stands; the journal and the stores hold what the chain only has
digests of. Each method first looks whether its step is already done (by this process, by an
earlier one that died, or, for finalising, by anybody else) and then does only what is missing.
Everything a proposal says is computed from stored bytes, so doing it again gives the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from eth_account.signers.local import LocalAccount

from ledger.chain import Ledger
from ledger.chain_types import RoundState
from ledger.errors import (
    AttestationsMissing,
    CommitWindowClosed,
    CommitWindowOpen,
    RoundClosed,
    RoundFinalisable,
    TooFewAccepted,
    WrongPhase,
)
from ledger.manifest import Manifest, decode_model
from ledger.messages import AttestReply, ProposalOrder, TrainOrder, TrainReply
from ledger.seal import key_digest
from ledger.statement import Domain, Phase, Proposal, bitmap_of
from ledger.travels import update_manifest
from ledger.witness import Witness
from server.bench import Bench
from server.draft import Draft
from server.inbox import Inbox
from server.plan import Keyring, RoundPlan
from server.report import ANSWER, report_missed, report_round
from server.results import RoundResult
from server.store import RunStore
from server.verify import check_metrics, metrics_of

Wait = Callable[[int], None]
"""Returns once the chain's clock has reached a Unix second."""


class Coordinator:
    """One federation's coordinator.

    Args:
        store: the run folder, held by this process.
        ledger: the chain.
        account: the coordinator's Ethereum account.
        keyring: its sealing keys.
        plan: what rounds ask for.
        manifest: of the model; the initial model must be in ``store.models``.
        wait: how to wait for a deadline (tests travel in time); by default it sleeps.
        other_domains: federations known beside this one, to name a replay from one of them.
        witness: remembers every head it has seen, where the coordinator keeps one.
    """

    def __init__(
        self,
        *,
        store: RunStore,
        ledger: Ledger,
        account: LocalAccount,
        keyring: Keyring,
        plan: RoundPlan,
        manifest: Manifest,
        wait: Wait | None = None,
        other_domains: Sequence[Domain] = (),
        witness: Witness | None = None,
    ) -> None:
        self.store = store
        self.ledger = ledger
        self.plan = plan
        self.manifest = manifest
        self._account = account
        self._keyring = keyring
        self.bench = Bench(
            store=store,
            ledger=ledger,
            keyring=keyring,
            manifest=manifest,
            other_domains=tuple(other_domains),
        )
        self._witness = witness
        self._wait = wait or self._sleep_until

    # ---- after a restart ----

    def catch_up(self) -> tuple[RoundResult, ...]:
        """Report the rounds that ended while nobody could write it down; call it on taking up."""
        return report_missed(self.ledger, self.store, self._inbox)

    # ---- step 1: open ----

    def open_round(self) -> TrainOrder:
        """Open the next round, or take up the live one, and return the order to train.

        Raises:
            WrongPhase: the live round has its proposal already; go on with ``serve``.
            EvidenceMissing, EvidenceMismatch: the base model or the configuration is gone.
            StaleKey: the newest sealing key is retired.
            ContractError, LedgerUnavailable: as ``Ledger.open_round``.
        """
        state = self.ledger.round()
        if state.phase is Phase.ATTESTING:
            raise WrongPhase(f"round {state.number} is already proposed", phase=state.phase)
        if state.phase is Phase.IDLE:
            self._open(state.number + 1)
        return self.order()

    def _open(self, number: int) -> None:
        base = self.ledger.model()
        decode_model(self.store.models.get(base), self.manifest)
        config = self.plan.config(self.manifest, number)
        stored = self._keyring.current()
        digest = self.store.put_config(config)
        if self.store.journal.read(number, "opening") is None:
            self.store.journal.record(number, "opening", {"started": time.time()})
        self.ledger.open_round(
            self._account,
            base_model=base,
            config_digest=digest,
            key_digest=key_digest(self._keyring.publics(stored), stored.epoch),
            norm_bound=self.plan.quantiser(self.manifest, number).norm_bound,
            commit_window=self.plan.commit_window,
            attest_window=self.plan.attest_window,
        )

    def order(self) -> TrainOrder:
        """Return the live round's order to train, from the chain and the stores alone."""
        number = self._live().number
        opening = self.ledger.opening(number)
        stored = self._keyring.announced(opening.key_digest)
        return TrainOrder(
            round=number,
            base_model_bytes=self.store.models.get(opening.base_model),
            config=self.store.get_config(opening.config_digest),
            public_keys=self._keyring.publics(stored),
            key_epoch=stored.epoch,
        )

    # ---- step 6: receive ----

    def receive(self, reply: TrainReply | Mapping[str, object]) -> str:
        """Keep one reply, sealed, and return its hospital's address.

        Args:
            reply: a reply, or the record of one as it came off the wire.

        Raises:
            CommitWindowClosed: the round is already decided.
            WrongRound, DuplicateUpdate, OversizeUpdate, UndeclaredOutput, InvalidStatement: it
                cannot be kept; the round goes on.
        """
        state = self._live()
        if self.ledger.proposal(state.number) is not None:
            raise CommitWindowClosed(f"round {state.number} is already decided")
        inbox, commits = self._inbox(state.number), self.ledger.commits(state.number)
        if isinstance(reply, TrainReply):
            inbox.put(reply, commits.get(reply.hospital))
            return reply.hospital
        return inbox.put_record(reply, commits)

    def note_failure(self, who: str, why: str) -> None:
        """Note that a hospital raised, died or hung: the window need not wait for it."""
        self._inbox(self._live().number).note_failure(who, why)

    # ---- the commit window ----

    def close(self) -> None:
        """Return once nobody can commit any more.

        With the whole roster committed that is at once. When a hospital is known to have failed,
        the window is closed on record, as soon as the federation's rules allow; otherwise this
        waits for the deadline: a late hospital may still come.
        """
        while not self._window_closed(state := self._live()):
            until = state.commit_deadline
            if self._inbox(state.number).failures():
                try:
                    self.ledger.close_commits(self._account, state.number)
                    continue
                except CommitWindowOpen as error:
                    until = int(str(error.arguments["closesAt"]))
                except CommitWindowClosed:
                    continue
            self._wait(until)

    def _window_closed(self, state: RoundState) -> bool:
        if state.phase is not Phase.COMMITTING:
            return True
        everyone = state.committed.bit_count() >= state.roster_count
        return everyone or self.ledger.clock() >= state.commit_deadline

    # ---- steps 7 to 9: verify, aggregate, propose ----

    def propose(self) -> Proposal | None:
        """Decide on every commit and propose the sum; None when the round had to be aborted.

        Raises:
            CommitWindowOpen: somebody may still commit: nothing is opened before.
            PolicyError: the screen or the privacy policy is misconfigured: nothing passes.
        """
        state = self.ledger.round()
        if state.phase is Phase.IDLE:
            return None
        if state.phase is Phase.ATTESTING:
            return self.ledger.proposal(state.number)
        number = state.number
        if not self._window_closed(state):
            raise CommitWindowOpen(
                f"the commit window of round {number} is open until {state.commit_deadline}",
                round=number,
                closesAt=state.commit_deadline,
                time=self.ledger.clock(),
            )
        case = self.bench.take_up(number)
        decisions = self.bench.decide(case, self._inbox(number))
        try:
            self._send_proposal(self.bench.draft(decisions, case))
        except TooFewAccepted:
            self._abort(number)
            return None
        return self.ledger.proposal(number)

    def _send_proposal(self, found: Draft) -> None:
        accepted, refused = found.decisions.accepted(), found.decisions.refused()
        self.ledger.propose(
            self._account,
            round=found.decisions.round,
            sum_digest=found.sum_digest,
            model_digest=found.model_digest,
            accepted=bitmap_of([d.seat for d in accepted if d.seat is not None]),
            refused=bitmap_of([d.seat for d in refused if d.seat is not None]),
            reasons={d.seat: d.code for d in refused if d.seat is not None},
            probes=found.probes,
        )

    # ---- steps 11 and 12: serve, answers ----

    def serve(self) -> ProposalOrder:
        """Return S for the hospitals to check, once the proposal is on the chain.

        Raises:
            WrongPhase: there is no proposal yet: S for two subsets would reveal a hospital.
        """
        state = self._live()
        proposal = self.ledger.proposal(state.number)
        if proposal is None:
            raise WrongPhase(f"round {state.number} has no proposal yet", phase=state.phase)
        return ProposalOrder(round=state.number, sum_bytes=self.store.sums.get(proposal.sum_digest))

    def answered(self, reply: AttestReply) -> None:
        """Note the numbers that came back with an attestation (the answer itself is on the chain).

        Raises:
            UndeclaredOutput: a number nobody asked for; none of them is kept.
        """
        number = self._live().number
        if reply.round != number:
            return
        check_metrics(reply.metrics, metrics_of(self.bench.config(number)))
        step = f"{ANSWER}{reply.hospital}"
        if self.store.journal.read(number, step) is None:
            self.store.journal.record(number, step, {"metrics": dict(reply.metrics)})

    # ---- step 13: finish ----

    def finish(self) -> RoundResult:
        """End the round: finalise where the contract agrees, else abort; report either way.

        Waits for the attest deadline only while an accepted hospital is still silent.
        """
        state = self.ledger.round()
        if state.phase is Phase.COMMITTING:
            raise WrongPhase(f"round {state.number} has no proposal yet", phase=state.phase)
        if state.phase is Phase.ATTESTING:
            self._end(state)
        if self._witness is not None:
            self._witness.advance()
        return report_round(self.ledger, self.store, self._inbox(state.number), state.number)

    def _end(self, state: RoundState) -> None:
        dissent = state.against & state.accepted
        if state.attested != state.accepted and not dissent:
            self._wait(state.attest_deadline)
        try:
            self.ledger.finalise(self._account, state.number)
        except AttestationsMissing:
            self._abort(state.number)
        except RoundClosed:
            return  # anyone may finalise, and somebody did

    def _abort(self, number: int) -> None:
        try:
            self.ledger.abort(self._account, number)
        except RoundFinalisable:
            self.ledger.finalise(self._account, number)
        except RoundClosed:
            return

    # ---- helpers ----

    def _live(self) -> RoundState:
        state = self.ledger.round()
        if state.phase is Phase.IDLE:
            raise RoundClosed(f"round {state.number} is not live", round=state.number)
        return state

    def _inbox(self, number: int) -> Inbox:
        update = update_manifest(self.manifest, self.bench.config(number))
        return Inbox(self.store, number, update, 1 + len(self._keyring.auditors))

    def _sleep_until(self, until: int) -> None:
        while (left := until - self.ledger.clock()) > 0:
            time.sleep(min(left, 1.0))
