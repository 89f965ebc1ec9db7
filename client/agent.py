"""The hospital: its own authority over data, keys, budget, memory and policy.

It knows two orders. *Train*: check everything the coordinator says against the chain and against
the hospital's own policy, take the budget, train, make the update durable, commit, and only then
reply. *Attest*: recompute everything that was proposed and say so on the chain, in the hospital's
own transaction. Every step can be repeated after a crash: a finished update is sent again, never
trained again; an answer that was given is given again.

The chain decides what is true, never the coordinator: a base model is right if its digest is the
last final one, whoever brought the bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from eth_account.signers.local import LocalAccount
from filelock import FileLock, Timeout

from client.check import check_order
from client.contributor import Contributor
from client.guard import NoPrivacy, PrivacyGuard
from client.juror import Juror
from client.policy import Policy
from client.roles import Evaluator, TrainedUpdate, Trainer
from client.spool import Spool, Verdict
from client.terms import RoundTerms
from client.view import read_opening
from ledger.chain import Ledger
from ledger.errors import RunBusy
from ledger.files import ObjectStore
from ledger.manifest import decode_model
from ledger.messages import AttestReply, ProposalOrder, TrainOrder, TrainReply
from ledger.quantise import bucket_weight
from ledger.witness import Witness

__all__ = ["Hospital", "TrainedUpdate", "Trainer"]

PATIENCE: Final = 900.0
"""Seconds a message waits for another one of the same hospital."""


class Hospital:
    """One hospital and all it keeps: ``witness.json``, ``spool/``, ``models/`` in its home.

    Args:
        home: its private folder.
        ledger: the chain, as this hospital sees it.
        account: signs the hospital's own transactions.
        trainer: trains on the hospital's data.
        policy: what it lets a coordinator ask.
        clock: Unix seconds; tests give their own.
        guard: takes and settles the privacy budget.
        evaluator: scores a new model on held-back data; None: no scores leave.
        seed: fixes the training's randomness over all rounds; with privacy, not the noise.
        patience: seconds to wait for another message of this hospital.
        on_close: releases what the hospital was given (its journal's file).
    """

    def __init__(
        self,
        home: Path,
        ledger: Ledger,
        account: LocalAccount,
        trainer: Trainer,
        policy: Policy,
        clock: Callable[[], float] = time.time,
        *,
        guard: PrivacyGuard | None = None,
        evaluator: Evaluator | None = None,
        seed: int = 0,
        patience: float = PATIENCE,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._home = home
        self._ledger = ledger
        self._account = account
        self._policy = policy
        self._clock = clock
        self._evaluator = evaluator
        self._patience = patience
        self._on_close = on_close
        self._spool = Spool(home / "spool")
        self._models = ObjectStore(home / "models", ".safetensors")
        self._contributor = Contributor(
            ledger,
            account,
            self._spool,
            self._models,
            policy,
            trainer=trainer,
            guard=guard or NoPrivacy(),
            clock=clock,
            seed=seed,
        )
        self._juror = Juror(ledger, account, self._spool, self._models, policy)

    @property
    def address(self) -> str:
        """The hospital's EIP-55 address."""
        return str(self._account.address)

    def close(self) -> None:
        """Release the hospital's files; everything is already durable."""
        if self._on_close is not None:
            self._on_close()

    def register(self, cap: int, examples: int, *, opening_epsilon: int = 0) -> None:
        """Take the seat this hospital was enrolled for, with its cap and bucketed weight.

        Args:
            cap: largest cumulative epsilon it will ever spend here, in micro-units.
            examples: training examples; only their bucket is published.
            opening_epsilon: micro-epsilon already spent elsewhere on the same patients.

        Raises:
            NotMember: it was not enrolled.
            AlreadyRegistered: it has its seat.
        """
        with self._exclusive():
            self._ledger.register(self._account, cap, opening_epsilon, bucket_weight(examples))

    def set_examples(self, examples: int) -> None:
        """Publish a changed number of examples (its bucket), between rounds only.

        Raises:
            RoundLive: a round is live; a weight never changes within one.
        """
        with self._exclusive():
            weight = bucket_weight(examples)
            if self._ledger.member(self.address).weight != weight:
                self._ledger.set_weight(self._account, weight)

    def train(self, order: TrainOrder) -> TrainReply:
        """Carry out a training order; the same order again gives the same reply.

        Raises:
            LedgerError: the chain cannot be reached, rolled back, or its clock is off.
            TrustError, SumError, ContractError, BadKey, CodecError: the order is not what the
                chain says, or not what the policy allows; nothing was spent.
            PrivacyError: the budget does not allow it; nothing was trained.
        """
        with self._exclusive():
            witness = self._witness()
            opening = read_opening(self._ledger, order.round)
            terms = RoundTerms.parse(order.config)
            check_order(terms, opening, order.public_keys, order.key_epoch)
            entry = self._contributor.finished(order, opening, terms)
            self._contributor.commit(entry, opening, witness)
            witness.advance()
            return TrainReply(
                hospital=self.address,
                round=order.round,
                ciphertext=self._spool.sealed(entry),
                metrics=dict(entry.metrics),
            )

    def attest(self, order: ProposalOrder) -> AttestReply:
        """Check a proposal and answer it on the chain; the same order again, the same reply.

        Raises:
            LedgerError: the chain cannot be reached, rolled back, or its clock is off.
            ContractError: no round or proposal is live, or the window has closed.
        """
        with self._exclusive():
            witness = self._witness()
            read_opening(self._ledger, order.round)
            verdict = self._juror.verdict(order)
            self._juror.send(verdict)
            verdict = self._score(verdict)
            witness.advance()
            return AttestReply(
                hospital=self.address,
                round=order.round,
                attested=verdict.kind == "attested",
                code=verdict.code,
                model_digest=verdict.model_digest,
                metrics=dict(verdict.metrics or {}),
            )

    def _score(self, verdict: Verdict) -> Verdict:
        """Score a model that was found to hold, once: a second score could be a second release."""
        config = self._spool.config(verdict.round)
        if verdict.metrics is not None or config is None:
            return verdict
        metrics: dict[str, float] = {}
        terms = RoundTerms.parse(config)
        if self._evaluator and verdict.model_digest in self._models:
            model = decode_model(self._models.get(verdict.model_digest), terms.manifest)
            metrics = self._policy.allowed(self._evaluator(model, terms.config), terms)
        verdict = replace(verdict, metrics=metrics)
        self._spool.keep_verdict(verdict)
        return verdict

    def _witness(self) -> Witness:
        """Return the witness, read afresh, once the chain agrees with all it has seen."""
        witness = Witness(self._home / "witness.json", self._ledger, now=self._clock)
        witness.check()
        return witness

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        try:
            with FileLock(self._home / "lock", timeout=self._patience):
                yield
        except Timeout:
            raise RunBusy("another message of this hospital is still being worked on") from None
