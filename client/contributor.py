"""The hospital's contribution to a round: from an order to a commit (protocol, steps 2 to 5).

The order of the steps is the point. What can be refused is refused before the budget is touched;
the budget is charged before training; the finished update is durable before its commit is sent.
So a crash anywhere costs at most a training that nobody saw, and nothing is ever trained (or
spent) twice for one reply.
"""

from __future__ import annotations

from collections.abc import Callable

from eth_account.signers.local import LocalAccount

from client.check import check_base
from client.guard import PrivacyGuard
from client.policy import Policy
from client.roles import Trainer
from client.spool import Entry, Spool
from client.terms import RoundTerms
from client.update import UpdateContext, seal_update
from client.view import check_membership, check_window, read_lineage
from ledger.canonical import sha256, tagged_digest
from ledger.chain import Ledger
from ledger.errors import AlreadyCommitted, HeadMismatch
from ledger.files import ObjectStore, remove
from ledger.manifest import Model, decode_model
from ledger.messages import TrainOrder
from ledger.statement import Opening
from ledger.witness import Witness


class Contributor:
    """Makes and commits one hospital's updates; its caller holds the hospital's lock."""

    def __init__(
        self,
        ledger: Ledger,
        account: LocalAccount,
        spool: Spool,
        models: ObjectStore,
        policy: Policy,
        *,
        trainer: Trainer,
        guard: PrivacyGuard,
        clock: Callable[[], float],
        seed: int,
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._hospital = str(account.address)
        self._spool = spool
        self._models = models
        self._policy = policy
        self._trainer = trainer
        self._guard = guard
        self._clock = clock
        self._seed = seed

    def finished(self, order: TrainOrder, opening: Opening, terms: RoundTerms) -> Entry:
        """Return the finished update of a round: the spooled one, or a new, durable one.

        Args:
            order: what the coordinator asks, already compared with the opening.
            opening: the round as the chain opened it.
            terms: the order's configuration.

        Raises:
            TrustError, SumError, ContractError, CodecError: the base or the configuration is not
                what the chain says, or not what the policy allows; nothing was spent.
            PrivacyError: the budget does not allow it; nothing was trained.
        """
        entry = self._spool.entry(order.round)
        if entry is None:
            base = self._accept(order, opening, terms)
            entry = self._make(order, opening, terms, base)
        # Not only after a training: a crash between the two must not keep an old update for ever.
        self._forget(order.round, opening.base_model)
        return entry

    def _accept(self, order: TrainOrder, opening: Opening, terms: RoundTerms) -> Model:
        """Return the base model of an order that chain and policy allow; remember both."""
        rules = self._ledger.rules()
        lineage = read_lineage(self._ledger, rules)
        data = order.base_model_bytes
        check_base(sha256(data), opening, lineage, quorum_only=self._policy.accept_quorum_only)
        base = decode_model(data, terms.manifest)
        self._policy.check(terms, rules)
        check = getattr(self._trainer, "check", None)
        if check is not None:
            check(terms.config)
        self._models.put(data)
        self._spool.keep_config(order.round, order.config)
        return base

    def _make(self, order: TrainOrder, opening: Opening, terms: RoundTerms, base: Model) -> Entry:
        """Charge, train, seal and spool; what is returned is durable."""
        number = order.round
        check_window(self._ledger, number, self._clock())
        spent, cap = check_membership(self._ledger, self._hospital, number)
        charge = self._guard.authorise(number, terms.config, spent=spent, cap=cap)
        # The trainer gets copies: one that trains in place must not turn the delta into zero.
        copies = {name: array.copy() for name, array in base.items()}
        trained = self._trainer(copies, terms.config, self._round_seed(number))
        sealed = seal_update(
            trained.model,
            base,
            UpdateContext(
                domain=self._ledger.domain,
                hospital=self._hospital,
                round=number,
                base_model=opening.base_model,
                key_epoch=order.key_epoch,
                update=terms.update,
                quantiser=terms.quantiser,
                public_keys=order.public_keys,
            ),
        )
        entry = Entry(
            round=number,
            open_head=opening.open_head,
            base_model=opening.base_model,
            config_digest=opening.config_digest,
            seal_digest=sealed.seal_digest,
            opening_digest=sealed.opening_digest,
            mechanism=self._guard.settle(charge, trained.mechanism),
            metrics=self._policy.allowed(trained.metrics, terms),
        )
        self._spool.keep_update(entry, sealed.opening, sealed.ciphertext)
        return entry

    def commit(self, entry: Entry, opening: Opening, witness: Witness) -> None:
        """Put a finished update's digests on the chain, once.

        Raises:
            HeadMismatch: the spooled update is of another history than the chain now shows.
            AlreadyCommitted: somebody committed something else in this hospital's name.
        """
        if (entry.open_head, entry.base_model, entry.config_digest) != (
            opening.open_head,
            opening.base_model,
            opening.config_digest,
        ):
            raise HeadMismatch(
                f"the update spooled for round {entry.round} is of another history",
                expected=opening.open_head,
                given=entry.open_head,
            )
        if self._spool.is_committed(entry.round) and not self._is_committed(entry):
            self._ledger.recover()  # the chain lost a transaction that was seen mined
        if self._is_committed(entry):
            self._spool.mark_committed(entry.round)
            return
        try:
            receipt = self._ledger.commit(
                self._account,
                open_head=entry.open_head,
                seal_digest=entry.seal_digest,
                opening_digest=entry.opening_digest,
                mechanism=entry.mechanism,
            )
            witness.observe(receipt)
        except AlreadyCommitted:
            # The transaction of an earlier attempt may have been mined meanwhile.
            if not self._is_committed(entry):
                raise
        self._spool.mark_committed(entry.round)

    def _is_committed(self, entry: Entry) -> bool:
        found = self._ledger.commits(entry.round).get(self._hospital)
        return found is not None and (found.seal_digest, found.opening_digest) == (
            entry.seal_digest,
            entry.opening_digest,
        )

    def _round_seed(self, number: int) -> int:
        return int.from_bytes(tagged_digest("thoracle/train-seed/v1", self._seed, number)[:8]) >> 1

    def _forget(self, number: int, base: bytes) -> None:
        forget = getattr(self._trainer, "forget", None)
        if forget is not None:
            forget()
        self._spool.prune(number - self._policy.keep_rounds + 1)
        for digest in list(self._models.digests()):
            if digest != base:
                remove(self._models.path(digest))
