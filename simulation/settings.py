"""Everything a simulated federation is told, in one frozen record.

Values come from the defaults here, then from a TOML file, then from the command line, the later
over the earlier. Nothing is written before the whole record has been checked.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from client.data.records import FINDINGS
from client.data.uncertainty import Policy
from client.data.vocabulary import ABNORMAL
from ledger.errors import ConfigError
from simulation.partition import parse_scheme
from simulation.phase_settings import read_phases, rounds_of, settings_of

PHANTOMS = "phantoms"
CONFIG_BYTES = 1 << 20
MAX_EPSILON = 1000.0
_FINDINGS: Final[Mapping[str, tuple[str, ...] | None]] = MappingProxyType(
    {"nih": FINDINGS, "union": None, "abnormal": (ABNORMAL,)}
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One simulated federation.

    Seconds for times, pixels for sizes, shares between 0 and 1.
    """

    data: str = PHANTOMS
    """A folder of radiographs (several with commas between), or ``phantoms``."""
    test: str = ""
    """A folder for central scoring; empty: the data's own ``test_list.txt``, if it has one."""
    findings: str = "nih"
    """What the model tells: ``nih`` (its 14 findings), ``union`` (all that any source labels), or
    ``abnormal`` (one: whether there is any, ``client.data.vocabulary``).

    What a source does not label is unknown for its images, and masked."""
    uncertain: str = "ignore"
    """What an uncertain label becomes: a policy of ``client.data.uncertainty``."""
    self_epochs: int = 3
    """Passes of the local training whose probabilities replace them under ``selftrained``."""
    patients: int = 360
    """Phantom patients to draw, when ``data`` is ``phantoms``."""
    hospitals: int = 3
    rounds: int = 3
    partition: str = "iid"
    learner: str = "ssganvit"
    size: int = 64
    seed: int = 0
    epochs: int = 1
    """Local passes over a hospital's training patients in each round."""
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    max_norm: float = 20.0
    """L2 bound on one hospital's delta, in model units; becomes the norm bound B on the chain."""
    coordinate_drift: float = 0.5
    """Largest change of one parameter that quantising must cover, in model units."""
    held_back: float = 0.15
    """Share of a hospital's patients it keeps for scoring."""
    share_cap: float = 0.6
    min_accepted: float = 0.5
    silent_share: float = 0.0
    """Weight that may stay silent in a QuorumOnly round; 0 forbids such rounds."""
    screen: bool = True
    aggregation: str = "mean"
    """Only the weighted mean: the contract checks a weighted sum, and robust means are another."""
    epsilon: float = 8.0
    """Privacy budget of the whole run for each patient; 0 (``off``) is no privacy."""
    initial_weights: str = ""
    """A file of weights to start from, or ``hub`` (timm's); empty: the seed alone."""
    warm_start: str = ""
    """Public radiographs to start from: a folder declared public, ``phantoms``, or empty."""
    warm_epochs: int = 3
    warm_learning_rate: float = 2e-3
    """Of the warm start, which is plain AdamW on batches of 32 whatever the rounds are."""
    delta: float = 1e-5
    unit: str = "patient"
    sample_rate: float = 0.1
    """Probability that a patient is drawn in a private step."""
    steps: int = 20
    """Private steps a round."""
    clip_norm: float = 0.1
    """Largest norm of one patient's gradient: at the size of an untrained model's, since whatever
    it is above that is only noise (docs/results.md)."""
    multiplicity: int = 1
    """Augmented copies of each image in a private step (De et al. 2022)."""
    insecure_noise: bool = False
    """Noise from the seed, for reproducible tests; the run is marked ``insecure-test``."""
    commit_window: int = 900
    attest_window: int = 300
    retain_evidence: int = 0
    """Rounds for which sealed updates are kept after their own; 0: for ever."""
    retain_models: int = 0
    """Rounds for which sums, and models that no later round needs, are kept; 0: for ever."""
    chain: str = "anvil"
    """``anvil`` for a managed node, or the URL of an external one."""
    cache: str = ""
    """A folder of preprocessed films to keep between runs on the same data; empty: none."""
    cpus: int = 0
    """Processors for Ray; 0 takes them all."""
    hospital_timeout: int = 1800
    """Seconds one call of a hospital may take before it is given up."""
    server: dict[str, Any] = field(default_factory=dict)
    """Rule from sum to model (``ledger.server_rule``): name, rate, beta1, beta2, tau."""
    learner_options: dict[str, Any] = field(default_factory=dict)
    """Options of the learner's class."""
    preprocess_options: dict[str, Any] = field(default_factory=dict)
    """Fields of ``client.data.pipeline.Preprocessing``: clahe, blur, mask and their sizes."""
    train_options: dict[str, Any] = field(default_factory=dict)
    """Further fields of the local training plan (``client.train.TrainPlan``)."""
    phases: list[dict[str, Any]] = field(default_factory=list)
    """Spans of rounds (``simulation.phase_settings``); empty: as the learner schedules them."""

    def __post_init__(self) -> None:
        """Check every range.

        Raises:
            ConfigError: a value is outside its range (the sentence names it).
        """
        _at_least("hospitals", self.hospitals, 1, 64)
        _at_least("rounds", self.rounds, 1, 100_000)
        _at_least("patients", self.patients, 1, 1_000_000)
        _at_least("size", self.size, 16, 1024)
        _at_least("seed", self.seed, 0, 2**31 - 1)
        _at_least("epochs", self.epochs, 1, 1000)
        _at_least("batch_size", self.batch_size, 1, 4096)
        _at_least("commit_window", self.commit_window, 5, 7 * 86_400)
        _at_least("attest_window", self.attest_window, 5, 7 * 86_400)
        _at_least("cpus", self.cpus, 0, 1024)
        _at_least("hospital_timeout", self.hospital_timeout, 1, 7 * 86_400)
        _at_least("retain_evidence", self.retain_evidence, 0, 1_000_000)
        _at_least("retain_models", self.retain_models, 0, 1_000_000)
        _at_least("steps", self.steps, 1, 100_000)
        _at_least("warm_epochs", self.warm_epochs, 1, 1000)
        _at_least("multiplicity", self.multiplicity, 1, 64)
        if not 0 <= self.epsilon <= MAX_EPSILON or not 1e-12 <= self.delta < 0.01:
            raise ConfigError("epsilon must be at most 1000, or off; delta below 0.01")
        _at_least("self_epochs", self.self_epochs, 1, 1000)
        Policy(self.uncertain)  # refuses an unknown one
        self._check_partition()
        if self.uncertain == Policy.SELFTRAINED and self.epsilon:
            raise ConfigError(
                "uncertain labels that are selftrained depend on other patients, which a private"
                " run's guarantee does not cover: use another policy, or epsilon off"
            )
        if self.findings not in _FINDINGS:
            raise ConfigError(f"findings are nih, union or abnormal, not {self.findings!r}")
        if self.aggregation != "mean":
            raise ConfigError(
                "aggregation is the weighted mean: a median, Krum or trimmed mean is another sum"
                " than the one the contract and every hospital check"
            )
        if self.unit not in {"patient", "image"}:
            raise ConfigError("unit must be patient or image")
        for name in (
            "learning_rate",
            "warm_learning_rate",
            "max_norm",
            "coordinate_drift",
            "clip_norm",
        ):
            if not 0 < getattr(self, name) < 1e6:
                raise ConfigError(f"{name} must be a positive number")
        for name in ("held_back", "share_cap", "min_accepted", "silent_share", "weight_decay",
                     "sample_rate"):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be between 0 and 1")
        if self.held_back > 0.5:
            raise ConfigError("held_back must be at most 0.5: most patients are to train on")
        if not self.share_cap:
            raise ConfigError("share_cap must be above 0")
        for table in read_phases(self.phases):
            settings_of(self, table)  # refuses values out of range
        if self.phases and rounds_of(self.phases) != self.rounds:
            raise ConfigError(
                f"the phases have {rounds_of(self.phases)} rounds together, the run {self.rounds}:"
                " say one of them"
            )

    def _check_partition(self) -> None:
        """Refuse a partition that is misspelt or cannot be, before any data are read."""
        scheme, _number = parse_scheme(self.partition)
        sources = len(self.data.split(","))
        if scheme == "source" and sources != self.hospitals:
            raise ConfigError(
                f"partition source makes each of the {sources} sources in data a hospital:"
                f" say hospitals = {sources}"
            )

    @property
    def known_findings(self) -> tuple[str, ...] | None:
        """What the model tells, in order; None of a union, which only the data know."""
        return _FINDINGS[self.findings]

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return dataclasses.asdict(self)


def parse_epsilon(text: str) -> float:
    """Return the budget that a flag or file states; 0 for ``off``.

    Raises:
        ConfigError: it is neither a positive number nor ``off``.
    """
    if text.strip().lower() == "off":
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= MAX_EPSILON:
        raise ConfigError(f"epsilon is a number above 0 and at most {MAX_EPSILON:g}, or off")
    return value


def _at_least(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} must be between {low} and {high}, not {value}")


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings of a TOML file, checked for names and types.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or holds an unknown name.
    """
    try:
        with path.open("rb") as file:
            text = file.read(CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    if len(text) > CONFIG_BYTES:
        raise ConfigError(f"the configuration {path} is over {CONFIG_BYTES} bytes")
    try:
        values = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {path} is not TOML: {error}") from None
    return values


def settings_from(values: dict[str, Any]) -> Settings:
    """Return settings from plain values over the defaults.

    Raises:
        ConfigError: an unknown name, a value of the wrong type, or one outside its range.
    """
    defaults = Settings().to_dict()
    checked: dict[str, Any] = {}
    for name, value in values.items():
        key = name.replace("-", "_")
        if key not in defaults:
            near = difflib.get_close_matches(key, defaults, n=1)
            hint = (
                f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(defaults))}"
            )
            raise ConfigError(f"unknown setting {name!r}; {hint}")
        default = defaults[key]
        if key == "epsilon" and isinstance(value, str):
            value = parse_epsilon(value)  # noqa: PLW2901 - a file may say "off"
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)  # noqa: PLW2901 - TOML writes 1 for 1.0
        if type(value) is not type(default):
            raise ConfigError(
                f"{name} must be of type {type(default).__name__}, not {type(value).__name__}"
            )
        checked[key] = value
    if checked.get("phases"):
        checked["phases"] = read_phases(checked["phases"])
        checked.setdefault("rounds", rounds_of(checked["phases"]))
    return Settings(**checked)
