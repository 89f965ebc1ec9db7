"""Reaching a node: one place for retries, back-off and deadlines.

An unreachable node is retried for a bounded time and then raises `LedgerUnavailable`; nobody goes
on unaudited. A node that answers with an error is not retried: it was reached, and said no.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from web3 import HTTPProvider, Web3
from web3.exceptions import (
    BadResponseFormat,
    BlockNotFound,
    ProviderConnectionError,
    RequestTimedOut,
    TooManyRequests,
    TransactionNotFound,
    Web3RPCError,
)
from web3.middleware import ExtraDataToPOAMiddleware
from web3.types import RPCEndpoint

from ledger.errors import ConfigError, LedgerUnavailable

T = TypeVar("T")

TRANSPORT_ERRORS: tuple[type[Exception], ...] = (
    requests.exceptions.RequestException,
    ConnectionError,
    TimeoutError,
    BadResponseFormat,
    ProviderConnectionError,
    RequestTimedOut,
    TooManyRequests,
)
"""What says that the node could not be reached (as against: it answered, with an error)."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait, in seconds.

    Attributes:
        outage: for a node that cannot be reached, before `LedgerUnavailable`.
        mining: for a transaction to be mined (`TransactionStuck`) and confirmed (`Unconfirmed`).
        offers: how often within ``mining`` it is offered again, dearer where gas costs anything.
        poll: between two looks for a receipt.
    """

    outage: float = 10.0
    mining: float = 60.0
    offers: int = 2
    poll: float = 0.02


class Transport:
    """Asks a node, patiently but not for ever."""

    def __init__(self, web3: Web3, patience: Patience) -> None:
        self.web3 = web3
        self.patience = patience

    def ask(self, what: str, question: Callable[[], T]) -> T:
        """Return ``question()``, retrying while the node cannot be reached.

        Args:
            what: the question in a few words, for the error's sentence.
            question: one or more calls; must be safe to repeat.

        Raises:
            LedgerUnavailable: not reached within ``patience.outage`` seconds.
        """
        deadline = time.monotonic() + self.patience.outage
        pause = 0.05
        while True:
            try:
                return question()
            except TRANSPORT_ERRORS as error:
                if time.monotonic() + pause > deadline:
                    raise LedgerUnavailable(
                        f"the node did not answer {what} within {self.patience.outage:g} s "
                        f"({type(error).__name__})"
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def read(self, what: str, question: Callable[[], T]) -> T:
        """Like `ask`, for reads: an error that the node answers with is also raised as ours.

        Raises:
            LedgerUnavailable: not reached, or the node cannot answer (pruned, not synced).
            TransactionNotFound: the node does not know the transaction (web3's own error).
        """
        try:
            return self.ask(what, question)
        except TransactionNotFound:  # an answer, though web3 calls it an error
            raise
        except (Web3RPCError, BlockNotFound) as error:
            raise LedgerUnavailable(f"the node cannot answer {what}: {error}") from error


def connect(url: str, *, timeout: float = 10.0) -> Web3:
    """Return a web3 client of an HTTP node; nothing is sent yet.

    Retries are `Transport`'s, so web3's own are off. Proof-of-authority chains (geth's clique,
    Besu's QBFT) put signatures into ``extraData``, which the middleware renames;
    elsewhere it changes nothing that is used.

    Args:
        url: ``http://`` or ``https://`` address of the node, or of the managed node's proxy.
        timeout: of one request, in seconds.

    Raises:
        ConfigError: not an HTTP address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"a node's address starts with http:// or https://, not {url!r}")
    provider = HTTPProvider(
        url,
        request_kwargs={"timeout": timeout},
        exception_retry_configuration=None,
        # web3 asks for it before every call; a quarter of all requests were this one.
        cache_allowed_requests=True,
        cacheable_requests={RPCEndpoint("eth_chainId")},
    )
    web3 = Web3(provider)
    web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
    return web3
