"""Where a round is decided and drawn up: from stored bytes and the chain, to a draft proposal.

Nothing here sends a transaction or waits. Everything is computed from what is stored, so a
coordinator that restarts, and an auditor with the key, decide and compute the same again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.canonical import parse_json
from ledger.chain import Ledger
from ledger.errors import EvidenceMismatch
from ledger.manifest import Manifest
from ledger.server_rule import ServerRule
from ledger.statement import Domain
from ledger.travels import update_manifest
from server.decide import Decisions, decide
from server.draft import Draft, DraftFacts, draft
from server.facts import read_facts
from server.inbox import Inbox
from server.plan import Keyring
from server.screen import ScreenPolicy
from server.store import MAX_CONFIG_BYTES, RunStore
from server.verify import RoundFacts


@dataclass(frozen=True, kw_only=True)
class RoundCase:
    """One round on the bench: the chain's side of it, and its configuration."""

    facts: RoundFacts
    config: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Decides on rounds of one run."""

    store: RunStore
    ledger: Ledger
    keyring: Keyring
    manifest: Manifest
    other_domains: tuple[Domain, ...] = ()

    def take_up(self, number: int) -> RoundCase:
        """Gather what deciding on a round needs.

        Raises:
            EvidenceMissing, EvidenceMismatch: the configuration is gone or changed.
            BadKey: none of the coordinator's keys is the one announced.
            PolicyError: the privacy policy is misconfigured: nothing passes.
            ConfigError: what travels is no part of the model.
        """
        opening, config = self.ledger.opening(number), self.config(number)
        facts = read_facts(
            self.ledger,
            number,
            config=config,
            update=update_manifest(self.manifest, config),
            key_epoch=self.keyring.announced(opening.key_digest).epoch,
            other_domains=self.other_domains,
        )
        return RoundCase(facts=facts, config=config)

    def config(self, number: int) -> dict[str, object]:
        """Return the configuration that a round was opened with.

        Raises:
            EvidenceMissing, EvidenceMismatch: it is gone or changed.
        """
        digest = self.ledger.opening(number).config_digest
        config = parse_json(self.store.get_config(digest), MAX_CONFIG_BYTES)
        if not isinstance(config, dict):
            raise EvidenceMismatch(f"the configuration of round {number} is not a JSON object")
        return config

    def decide(self, case: RoundCase, inbox: Inbox) -> Decisions:
        """Decide on every commit and reply, and record the decisions with their measurements.

        Raises:
            PolicyError: the screen is misconfigured: nothing passes.
            EvidenceMissing, EvidenceMismatch: a stored ciphertext is gone or changed.
        """
        facts = case.facts
        decisions = decide(
            inbox.replies(facts.commits),
            facts,
            self.keyring.opener(self.keyring.announced(facts.opening.key_digest)),
            ScreenPolicy.from_config(case.config.get("screen")),
            inbox.unreadable(),
        )
        self.store.put_decisions(decisions.round, decisions.to_json())
        return decisions

    def draft(self, decisions: Decisions, case: RoundCase) -> Draft:
        """Draw up the proposal, and store its sum, its model and the final decisions.

        Raises:
            TooFewAccepted: nobody is left.
        """
        facts, quantiser = case.facts, case.config["quantiser"]
        exponent = quantiser["step_exponent"] if isinstance(quantiser, dict) else None
        found = draft(
            decisions,
            DraftFacts(
                domain=facts.domain,
                manifest=self.manifest,
                update=facts.update,
                step_exponent=int(str(exponent)),
                norm_bound=facts.opening.norm_bound,
                base_model=self.store.models.get(facts.opening.base_model),
                commits=facts.commits,
                rule=ServerRule.of_config(case.config),
            ),
        )
        self.store.sums.put(found.sum_bytes)
        self.store.models.put(found.model_bytes)
        self.store.put_decisions(decisions.round, found.decisions.to_json())
        return found
