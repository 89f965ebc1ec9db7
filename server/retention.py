"""Erases what a run need no longer keep: by the lives that its rounds declared on the chain.

Nothing goes before its time: what may go follows from the chain's history and the configurations
whose digests stand on it, never from a clock or a flag. What goes is written into the coordinator's
journal first, so that a crash in between leaves a record, and doing it again ends it. The rounds'
configurations and decisions stay; they hold no update.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ledger.canonical import parse_json
from ledger.errors import ConfigError
from ledger.files import ObjectStore, remove
from ledger.keys import destroy_seal_key
from ledger.replica import History
from ledger.replica_round import RoundHistory
from ledger.retention import Retention
from ledger.statement import Outcome
from server.store import MAX_CONFIG_BYTES, RunStore

ERASED = "erased"
"""Journal step of a round: what of it was erased."""


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """What was, or would be, erased.

    Attributes:
        rounds: rounds of which anything goes.
        evidence: digests of sealed updates.
        sums: digests of sums.
        models: digests of models.
        keys: names of sealing keys destroyed.
        bytes: of all files.
    """

    rounds: tuple[int, ...]
    evidence: tuple[bytes, ...]
    sums: tuple[bytes, ...]
    models: tuple[bytes, ...]
    keys: tuple[str, ...] = ()
    bytes: int = 0


def plan_erasure(store: RunStore, history: History, before: int | None = None) -> Erasure:
    """Return what may be erased now.

    Args:
        store: the run.
        history: the chain's, checked.
        before: only rounds below this one; None: every round whose life is over.

    Raises:
        ConfigError: a round that was asked for is still within its declared life.
    """
    closed = [past for past in history.rounds if past.outcome != Outcome.NONE]
    over = {past.opening.round: _over(store, past, len(closed)) for past in closed}
    if before is not None:
        early = [n for n, what in over.items() if n < before and not what]
        if early:
            raise ConfigError(
                f"round {early[0]} is within its declared life, or declares none: what is erased"
                " before its time is a failed audit"
            )
        over = {n: what if n < before else frozenset() for n, what in over.items()}
    evidence = _evidence(store, closed, over)
    sums, models = _results(history, closed, over)
    stores = ((store.evidence, evidence), (store.sums, sums), (store.models, models))
    present = [tuple(d for d in digests if d in where) for where, digests in stores]
    return Erasure(
        rounds=tuple(number for number, what in over.items() if what),
        evidence=present[0],
        sums=present[1],
        models=present[2],
        bytes=sum(
            _size(where, digest)
            for (where, _), found in zip(stores, present, strict=True)
            for digest in found
        ),
    )


def erase(store: RunStore, plan: Erasure) -> None:
    """Carry an erasure out, its record first."""
    for number in plan.rounds:
        if store.journal.read(number, ERASED) is None:
            store.journal.record(number, ERASED, {"as": "declared"})
    for where, digests in (
        (store.evidence, plan.evidence),
        (store.sums, plan.sums),
        (store.models, plan.models),
    ):
        for digest in digests:
            remove(where.path(digest))


def destroy_keys(run: Path, *, reason: str, time: int) -> None:
    """Destroy every sealing key of a run: nothing sealed to them opens ever again.

    Args:
        run: the run folder.
        reason: one line for the auditor; it stands on the tombstone.
        time: Unix seconds.
    """
    for path in key_files(run):
        destroy_seal_key(path, reason=reason, time=time)


def key_files(run: Path) -> tuple[Path, ...]:
    """Return the files of a run's sealing keys that are still there."""
    return tuple(sorted((run / "keys").glob("seal-*.json")))


def _over(store: RunStore, past: RoundHistory, closed: int) -> frozenset[str]:
    config = parse_json(store.get_config(past.opening.config_digest), MAX_CONFIG_BYTES)
    if not isinstance(config, dict):
        raise ConfigError(f"the configuration of round {past.opening.round} is no object")
    return Retention.of_config(config).over(past.opening.round, closed)


def _evidence(
    store: RunStore, closed: list[RoundHistory], over: dict[int, frozenset[str]]
) -> list[bytes]:
    """Return every ciphertext of expired rounds: committed ones, and whatever else was sent."""
    found: dict[bytes, None] = {}
    kept: set[bytes] = set()
    for past in closed:
        number = past.opening.round
        names = store.journal.matching(number, "reply/")
        digests = [bytes.fromhex(name.rsplit("/", 1)[1]) for name in names]
        digests += [commit.seal_digest for commit in past.commits.values()]
        if "evidence" in over[number]:
            found |= dict.fromkeys(digests)
        else:
            kept |= set(digests)
    return [digest for digest in found if digest not in kept]


def _results(
    history: History, closed: list[RoundHistory], over: dict[int, frozenset[str]]
) -> tuple[list[bytes], list[bytes]]:
    """Return the sums and models of expired rounds that no other round needs."""
    sums: dict[bytes, None] = {}
    models: dict[bytes, None] = {}
    needed = {history.model}
    for past in history.rounds:
        used = [past.opening.base_model]
        total = []
        if past.proposal is not None:
            used.append(past.proposal.model_digest)
            total.append(past.proposal.sum_digest)
        if past in closed and "models" in over[past.opening.round]:
            sums |= dict.fromkeys(total)
            models |= dict.fromkeys(used)
        else:
            needed |= {*used, *total}
    return [d for d in sums if d not in needed], [d for d in models if d not in needed]


def _size(where: ObjectStore, digest: bytes) -> int:
    return where.path(digest).stat().st_size
