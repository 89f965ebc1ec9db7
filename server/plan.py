"""What the coordinator asks of a round: its public plan, and the keys updates are sealed to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ledger.errors import BadKey, ConfigError, StaleKey
from ledger.keys import StoredSealKey
from ledger.manifest import Manifest
from ledger.quantise import Quantiser, plan_quantiser
from ledger.retention import FIELD as RETENTION
from ledger.retention import Retention
from ledger.seal import SealContext, check_public, key_digest, unseal
from ledger.server_rule import FIELD as SERVER
from ledger.server_rule import ServerRule, is_moment
from ledger.travels import PHASE, TRAVELS, update_manifest
from server.phases import PhasePlan, phase_at
from server.screen import ScreenPolicy

CONFIG_FORMAT = "thoracle/round-config/v1"
_BY_PHASE = (
    "train",
    "metrics",
    "travels",
    "max_norm",
    "coordinate_drift",
    "coordinate_noise",
)
"""Fields of ``PhasePlan`` that stand for the plan's own of the same name."""


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """One federation's rounds, from public values only.

    Attributes:
        rounds: how many rounds are planned, at least 1.
        learner: ``name`` and options of the model family.
        train: fields of the local training plan.
        data: findings, preprocessing and uncertainty policy that every hospital's data must have
            (``client.data_terms``), or None where the federation's data have no such terms.
        privacy: the planned mechanism, or None.
        screen: thresholds of the screen.
        metrics: names of the numbers replies may carry.
        max_norm: L2 bound of one honest delta without noise, in model units, > 0.
        coordinate_drift: largest change of one coordinate without noise, in model units, > 0.
        coordinate_noise: deviation of the privacy noise on one coordinate, in model units.
        commit_window: seconds hospitals have to train and commit.
        attest_window: seconds they have to check the sum.
        retention: how long what is stored is kept, in rounds.
        server: the rule from a round's sum to the next model.
        travels: names of the tensors that rounds update; empty: all but the server's moments.
        phases: spans of rounds that ask for something else each, in order; they make up all
            rounds. Where there are any they say what ``train``, ``metrics``, ``travels``, the
            norms and drifts, and the screen's floor of noise are.
    """

    rounds: int
    learner: Mapping[str, object]
    train: Mapping[str, object] = field(default_factory=dict)
    data: Mapping[str, object] | None = None
    privacy: Mapping[str, object] | None = None
    screen: ScreenPolicy = field(default_factory=ScreenPolicy)
    metrics: tuple[str, ...] = ()
    max_norm: float = 20.0
    coordinate_drift: float = 0.5
    coordinate_noise: float = 0.0
    commit_window: int = 900
    attest_window: int = 300
    retention: Retention = field(default_factory=Retention)
    server: ServerRule = field(default_factory=ServerRule)
    travels: tuple[str, ...] = ()
    phases: tuple[PhasePlan, ...] = ()

    def __post_init__(self) -> None:
        """Check the counts and windows.

        Raises:
            ConfigError: one is not positive, or the phases are of another run.
        """
        for name in ("rounds", "commit_window", "attest_window"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.phases and sum(phase.rounds for phase in self.phases) != self.rounds:
            raise ConfigError("the rounds of all phases do not make up the run's")
        if self.privacy is None and any(phase.privacy for phase in self.phases):
            raise ConfigError("a phase says how it is private, but the run is not")

    def quantiser(self, manifest: Manifest, number: int = 1) -> Quantiser:
        """Return the public step and norm bound of a round's updates.

        Raises:
            ConfigError: what travels in it is no part of the model.
        """
        if self.phases:
            phase, _ = phase_at(self.phases, number)
            return self._of(phase).quantiser(manifest)
        return plan_quantiser(
            update_manifest(manifest, self._part(manifest)).size,
            max_norm=self.max_norm,
            coordinate_noise=self.coordinate_noise,
            coordinate_drift=self.coordinate_drift,
        )

    def config(self, manifest: Manifest, number: int) -> dict[str, object]:
        """Return the configuration of round ``number``, whose digest goes on the chain.

        Raises:
            ConfigError: what travels in it is no part of the model.
        """
        if self.phases:
            phase, terms = phase_at(self.phases, number)
            return {**self._of(phase).config(manifest, number), PHASE: terms.to_config()}
        return self._common(manifest, number) | self._part(manifest)

    def _of(self, phase: PhasePlan) -> RoundPlan:
        """Return the plan of a run that would be this phase alone."""
        return replace(
            self,
            phases=(),
            screen=replace(self.screen, noise_floor=phase.noise_floor),
            privacy=None if self.privacy is None else {**self.privacy, **phase.privacy},
            **{name: getattr(phase, name) for name in _BY_PHASE},
        )

    def _part(self, manifest: Manifest) -> dict[str, object]:
        """Return what the configuration says of what travels: nothing where all of it does."""
        names = [spec.name for spec in manifest.tensors]
        chosen = list(self.travels) or [name for name in names if not is_moment(name)]
        return {} if chosen == names else {TRAVELS: chosen}

    def _common(self, manifest: Manifest, number: int) -> dict[str, object]:
        quantiser = self.quantiser(manifest)
        return {
            "format": CONFIG_FORMAT,
            "manifest": manifest.to_json(),
            "quantiser": {
                "step_exponent": quantiser.step_exponent,
                "norm_bound": quantiser.norm_bound,
            },
            "learner": dict(self.learner),
            "train": dict(self.train),
            "data": None if self.data is None else dict(self.data),
            "privacy": None if self.privacy is None else dict(self.privacy),
            "screen": self.screen.to_config(),
            "metrics": sorted(self.metrics),
            "round": number,
            "rounds": self.rounds,
            **({RETENTION: self.retention.to_config()} if self.retention != Retention() else {}),
            **({SERVER: self.server.to_config()} if self.server.adaptive else {}),
        }


@dataclass(frozen=True, kw_only=True)
class Keyring:
    """The coordinator's sealing keys, one an epoch, and whoever else updates are sealed to.

    Attributes:
        keys: every epoch's key; the newest opens new rounds, older ones only history.
        auditors: public keys updates are also sealed to.
    """

    keys: tuple[StoredSealKey, ...] = field(repr=False)
    auditors: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Check the keys.

        Raises:
            BadKey: there is none, two of one epoch, or an auditor's key is not valid.
        """
        epochs = [key.epoch for key in self.keys]
        if not epochs or len(set(epochs)) != len(epochs):
            raise BadKey("the coordinator needs one sealing key an epoch")
        for public in self.auditors:
            check_public(public)

    def current(self) -> StoredSealKey:
        """Return the key of the newest epoch.

        Raises:
            StaleKey: that epoch is retired: a new key is needed before a round can open.
        """
        newest = max(self.keys, key=lambda key: key.epoch)
        if newest.retired:
            raise StaleKey(f"the sealing key of epoch {newest.epoch} is retired; make a new one")
        return newest

    def publics(self, stored: StoredSealKey) -> tuple[bytes, ...]:
        """Return the recipients of an epoch: the coordinator first, then the auditors."""
        return (stored.key.public, *self.auditors)

    def announced(self, digest: bytes) -> StoredSealKey:
        """Return the key whose recipients the chain announced for a round.

        Raises:
            BadKey: none of the coordinator's epochs has this digest.
        """
        for stored in self.keys:
            if key_digest(self.publics(stored), stored.epoch) == digest:
                return stored
        raise BadKey("none of the coordinator's keys is the one announced on the chain")

    @staticmethod
    def opener(stored: StoredSealKey) -> _Opener:
        """Return what opens ciphertexts sealed to ``stored``."""
        return _Opener(stored)


class _Opener:
    """Holds a private key without showing it: ``opener(ciphertext, context) -> plaintext``."""

    def __init__(self, stored: StoredSealKey) -> None:
        self._stored = stored

    def __call__(self, ciphertext: bytes, context: SealContext) -> bytes:
        return unseal(ciphertext, self._stored.key, context)
