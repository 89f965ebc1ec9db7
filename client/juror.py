"""The hospital's verdict on a proposal, and saying it on the chain (protocol, steps 11 and 12).

An accepted hospital attests what it could recompute, and dissents with a code from what it could
not. A refused one checks the sum all the same; it contests if the sum is wrong, or if its own
update passes the very check that the coordinator says it failed. One that sent nothing has no
standing, but keeps the model it verified. The verdict is durable before it is sent.

All of it is judged from one list of events, and an attestation names the head that those events
lead to (`ledger.shown`): what the hospital signs is exactly what it saw.
"""

from __future__ import annotations

from typing import Final

from eth_account.signers.local import LocalAccount

from client.check import Case, OwnUpdate, check_proposal, recheck_own
from client.policy import Policy
from client.spool import Entry, Spool, Verdict
from client.terms import RoundTerms
from client.view import read_own, read_proposal
from ledger.chain import Ledger
from ledger.errors import (
    AlreadyAnswered,
    CodecError,
    CommitMissing,
    DigestMismatch,
    LedgerRollback,
    MalformedUpdate,
    NonCanonicalUpdate,
    NonFiniteUpdate,
    NormExceeded,
    OpeningMismatch,
    OversizeUpdate,
    SealBroken,
    SpecMismatch,
    StandingMismatch,
    SumError,
    WrongBaseModel,
    WrongDomain,
    WrongRound,
)
from ledger.files import ObjectStore
from ledger.manifest import decode_tensors
from ledger.messages import ProposalOrder
from ledger.quantise import effective_weight
from ledger.shown import ShownProposal
from ledger.statement import Opening, Proposal

CHECKABLE: Final = frozenset(
    kind.code
    for kind in (
        MalformedUpdate,
        OversizeUpdate,
        SpecMismatch,
        NonCanonicalUpdate,
        NonFiniteUpdate,
        SealBroken,
        CommitMissing,
        DigestMismatch,
        OpeningMismatch,
        WrongRound,
        WrongBaseModel,
        WrongDomain,
        NormExceeded,
    )
)
"""Reasons that a hospital can re-check by itself. Screening (an outlier, an inert update) is the
federation's judgement over all updates, and a reply that got lost proves nothing: not contested."""
UNKNOWN_MODEL: Final = bytes(32)


class Juror:
    """Judges proposals in one hospital's name."""

    def __init__(
        self,
        ledger: Ledger,
        account: LocalAccount,
        spool: Spool,
        models: ObjectStore,
        policy: Policy,
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._hospital = str(account.address)
        self._spool = spool
        self._models = models
        self._policy = policy

    def verdict(self, order: ProposalOrder) -> Verdict:
        """Return the verdict on the live proposal: the stored one, or a new, durable one.

        Raises:
            WrongPhase: there is no proposal.
            HeadMismatch: the node shows another history than its heads stand for.
            LedgerRollback: the chain has lost the commit this hospital saw mined.
            StoreError: this hospital's own files are damaged, so it can say nothing.
        """
        shown = self._shown(order.round)
        known = self._spool.verdict(order.round)
        if known is not None and known.proposed_head == shown.head:
            return known
        verdict = self._judge(order, shown)
        self._spool.keep_verdict(verdict)
        return verdict

    def send(self, verdict: Verdict) -> None:
        """Put a verdict on the chain, once.

        Raises:
            AlreadyAnswered: something else was answered in this hospital's name.
            HeadMismatch: the contract's history is not the one this hospital was shown.
            ContractError: the round no longer takes answers.
        """
        if verdict.kind == "silent" or self._is_sent(verdict):
            return
        try:
            if verdict.kind == "attested":
                self._ledger.attest(self._account, verdict.round, verdict.proposed_head)
            elif verdict.kind == "dissented":
                self._ledger.dissent(self._account, verdict.round, verdict.code)
            else:
                self._ledger.contest(self._account, verdict.round, verdict.code)
        except AlreadyAnswered:
            if not self._is_sent(verdict):
                raise

    def _is_sent(self, verdict: Verdict) -> bool:
        answer = self._ledger.answers(verdict.round).get(self._hospital)
        return answer is not None and (answer.kind, answer.code) == (verdict.kind, verdict.code)

    def _judge(self, order: ProposalOrder, shown: ShownProposal) -> Verdict:
        opening, commits, proposal = shown.opening, shown.commits, shown.proposal
        member = self._ledger.member(self._hospital)
        terms, entry = self._memory(opening)
        if self._hospital not in commits:
            entry = None  # finished, but never committed: no part of this round
        model, code = UNKNOWN_MODEL, 0
        if terms is None:
            # Nothing is known of this round; a commit in our name is then not ours to vouch for.
            code = StandingMismatch.code if self._hospital in commits else 0
        else:
            case = Case(
                domain=self._ledger.domain,
                hospital=self._hospital,
                seat=member.seat,
                weight=effective_weight(member.weight, opening.weight_cap),
                opening=opening,
                commits=commits,
                proposal=proposal,
                terms=terms,
                base=decode_tensors(self._models.get(opening.base_model), terms.manifest, "F32"),
                sum_bytes=order.sum_bytes,
                own=self._own(entry, terms),
            )
            try:
                model = self._models.put(check_proposal(case))
                code = self._grievance(case, entry)
            except SumError as error:
                code = error.code
        kind = _kind(proposal, member.seat, code) if self._hospital in commits else "silent"
        return Verdict(
            round=order.round,
            proposed_head=shown.head,
            kind=kind,
            code=0 if kind == "silent" else code,
            model_digest=model,
        )

    def _shown(self, number: int) -> ShownProposal:
        """Return the proposal, over the commits among which is the one this hospital saw mined.

        Raises:
            LedgerRollback: the chain has lost it, and the journal could not bring it back.
        """
        shown = read_proposal(self._ledger, number)
        if self._spool.is_committed(number) and self._hospital not in shown.commits:
            self._ledger.recover()
            shown = read_proposal(self._ledger, number)
            if self._hospital not in shown.commits:
                raise LedgerRollback("the chain has lost the commit this hospital saw mined")
        return shown

    def _memory(self, opening: Opening) -> tuple[RoundTerms | None, Entry | None]:
        """Return what this hospital accepted and sent in a round, if it is of this history."""
        config = self._spool.config(opening.round)
        terms = RoundTerms.parse(config) if config is not None else None
        if terms is None or terms.digest != opening.config_digest:
            return None, None
        entry = self._spool.entry(opening.round)
        return terms, entry if entry and entry.open_head == opening.open_head else None

    def _own(self, entry: Entry | None, terms: RoundTerms) -> OwnUpdate | None:
        if entry is None:
            return None
        return read_own(self._spool, entry, self._ledger, self._hospital, terms)

    def _grievance(self, case: Case, entry: Entry | None) -> int:
        """Return the code to contest a refusal with, 0 if there is no ground to."""
        reason = case.proposal.reasons.get(case.seat)
        if entry is None or not case.refused or not self._policy.contest:
            return 0
        if reason not in CHECKABLE:
            return 0
        try:
            recheck_own(case, self._spool.update(entry), self._spool.sealed(entry))
        except (CodecError, OpeningMismatch, NormExceeded):
            return 0
        return StandingMismatch.code


def _kind(proposal: Proposal, seat: int, code: int) -> str:
    if proposal.accepted >> seat & 1:
        return "dissented" if code else "attested"
    return "contested" if code else "silent"
