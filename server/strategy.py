"""Flower's two exchanges, driven by the coordinator: a ``Strategy`` that averages nothing.

It is a subclass of ``Strategy`` and not of ``FedAvg``, so that there is no mean of unverified
replies to fall back on: what Flower calls aggregation only hands replies to ``server.rounds``.
Whatever a hospital does (an error reply, silence, rubbish) costs that hospital its place; what
ends the run is the federation's own ground giving way: no chain, a full disk, a misconfiguration.
"""

# ruff: noqa: ARG002 - the methods' signatures are Flower's
from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, cast

from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    ConfigRecordValues,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from ledger.errors import (
    CodecError,
    ContractError,
    HospitalFailed,
    LedgerUnavailable,
    Refusal,
    RoundClosed,
    WrongPhase,
)
from ledger.messages import AttestReply, Record
from ledger.statement import Phase
from server.results import RoundResult
from server.rounds import Coordinator

ORDER: Final = "order"
REPLY: Final = "reply"
STOP: Final = LedgerUnavailable.__name__
"""A hospital that cannot reach the chain says so; the run stops rather than go on unaudited."""

log = logging.getLogger("thoracle.server")

OnRound = Callable[[RoundResult], None]


class AuditedRounds(Strategy):
    """Runs audited rounds over Flower.

    Args:
        coordinator: does all the work.
        hospitals: how many Flower nodes to wait for before the first round.
        joining: seconds to wait for them.
        on_round: is told each round's result as it ends.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        hospitals: int,
        joining: float = 120.0,
        on_round: OnRound | None = None,
    ) -> None:
        self.results: list[RoundResult] = []
        self._coordinator = coordinator
        self._hospitals = hospitals
        self._joining = joining
        self._on_round = on_round
        self._nodes: list[int] = []

    def summary(self) -> None:
        """Log what will run."""
        plan = self._coordinator.plan
        log.info("%d hospitals, %d rounds planned", self._hospitals, plan.rounds)

    # ---- train ----

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Open the round (or take up the live one) and send every node the order to train.

        Raises:
            HospitalFailed: there is no hospital to send it to.
            LedgerUnavailable, StoreError, PolicyError: the round cannot be opened.
        """
        self._nodes = self._wait_for_nodes(grid)
        if self._coordinator.ledger.round().phase is Phase.ATTESTING:
            return []  # taken up after a restart: this round's training is over
        order = self._coordinator.open_round()
        return self._messages(order.to_record(), MessageType.TRAIN, order.round)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Keep the replies, wait for the window to close, decide and propose.

        Raises:
            LedgerUnavailable: the chain cannot be reached, by us or by a hospital.
        """
        if self._coordinator.ledger.round().phase is Phase.COMMITTING:
            answered = {message.metadata.src_node_id: message for message in replies}
            for node in self._nodes:
                self._take(node, answered.get(node))
            self._coordinator.close()
            self._coordinator.propose()
        return None, None

    def _take(self, node: int, message: Message | None) -> None:
        """Hand one node's reply to the coordinator; whatever is wrong costs only this node."""
        try:
            record = _content(message)
            self._coordinator.receive(record)
        except HospitalFailed as error:
            if str(error) == STOP:
                raise LedgerUnavailable(f"node {node} cannot reach the chain") from None
            self._coordinator.note_failure(str(node), str(error))
            log.warning("node %d failed: %s", node, error)
        except (Refusal, CodecError, ContractError) as error:
            self._coordinator.note_failure(str(node), error.name)
            log.warning("node %d sent what cannot be used: %s: %s", node, error.name, error)

    # ---- evaluate ----

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Serve S to every node, refused ones too (they may contest); nothing when aborted."""
        try:
            order = self._coordinator.serve()
        except (WrongPhase, RoundClosed):
            return []  # the round was aborted: there is nothing to check
        return self._messages(order.to_record(), MessageType.EVALUATE, order.round)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Note the answers, finish the round and report it."""
        for message in replies:
            try:
                record = _content(message)
                named = record.get("metric_names")
                allowed = [str(name) for name in named] if isinstance(named, list) else []
                self._coordinator.answered(AttestReply.from_record(record, allowed_metrics=allowed))
            except HospitalFailed as error:
                if str(error) == STOP:
                    raise LedgerUnavailable("a hospital cannot reach the chain") from None
                log.warning("node %d failed: %s", message.metadata.src_node_id, error)
            except (Refusal, CodecError, ContractError) as error:
                log.warning("node %d: %s: %s", message.metadata.src_node_id, error.name, error)
        result = self._coordinator.finish()
        self.results.append(result)
        if self._on_round is not None:
            self._on_round(result)
        return MetricRecord(dict(result.metrics)) if result.metrics else None

    # ---- helpers ----

    def _messages(self, record: Record, kind: str, number: int) -> list[Message]:
        values = cast("dict[str, ConfigRecordValues]", record)
        return [
            Message(
                RecordDict({ORDER: ConfigRecord(values)}),
                dst_node_id=node,
                message_type=kind,
                group_id=str(number),
            )
            for node in self._nodes
        ]

    def _wait_for_nodes(self, grid: Grid) -> list[int]:
        """Return the nodes, having waited for all: the list is empty when a simulation starts."""
        deadline = time.monotonic() + self._joining
        while True:
            nodes = sorted(grid.get_node_ids())
            if len(nodes) >= self._hospitals:
                return nodes
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if not nodes:
            raise HospitalFailed("no hospital joined the run")
        log.warning("%d of %d hospitals joined", len(nodes), self._hospitals)
        return nodes


def _content(message: Message | None) -> Mapping[str, object]:
    """Return the fields of a reply.

    Raises:
        HospitalFailed: there is none: silence, an error reply (its sentence is then the name of
            the error's class) or something else than a reply.
    """
    if message is None:
        raise HospitalFailed("no reply in time")
    if message.has_error():
        raise HospitalFailed((message.error.reason or "error")[:200])
    record = message.content.config_records.get(REPLY)
    if record is None:
        raise HospitalFailed("the message holds no reply")
    return dict(record)
