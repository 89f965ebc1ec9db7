"""A whole federation in memory: the real contract, coordinator and hospitals, and no torch.

In the manner of python-tuf's ``RepositorySimulator``: everything is real but the chain's node (an
in-process EVM), the transport (method calls) and the training (a deterministic drift of some
hundred parameters). One deployed world is shared: ``World.snapshot`` and ``World.restore`` rewind
chain and disk together, so that each attack starts from the same honest past.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3.types import RPCEndpoint, RPCResponse

from client.agent import Hospital
from client.data_terms import DataTerms, check_data
from client.policy import Policy
from client.private_guard import PrivacyAccountGuard
from client.roles import TrainedUpdate
from ledger.canonical import sha256, tagged_digest
from ledger.chain import Ledger
from ledger.devchain import DevChain
from ledger.keys import StoredSealKey
from ledger.manifest import Manifest, Model, encode_model
from ledger.messages import AttestReply, ProposalOrder, TrainOrder, TrainReply
from ledger.seal import SealKey, key_from_seed
from ledger.server_rule import moment_names
from ledger.statement import Mechanism, Phase, Rules, Unit
from ledger.travels import TRAVELS
from server.phases import PhasePlan
from server.plan import Keyring, RoundPlan
from server.results import RoundResult
from server.rounds import Coordinator
from server.screen import ScreenPolicy
from server.store import RunStore

SHAPES: Mapping[str, tuple[int, ...]] = {
    "conv.weight": (16, 12),
    "head.bias": (8,),
    "norm": (4, 25),
}
EXAMPLES = (160, 192, 224, 256)
CAP = 10**12
COMMIT_WINDOW = 600
ATTEST_WINDOW = 600
MECHANISM = ("noise_multiplier", "sample_rate", "steps", "delta")
PRIVACY: Mapping[str, object] = {
    "unit": "patient",
    "noise_multiplier": 10**6,
    "sample_rate": 10**7,
    "steps": 10,
    "rounds": 100,
    "delta": 10**7,
}
"""A plan in the chain's units: noise 1, sampling rate 0.01, 10 steps a round, delta 1e-5."""


def account(name: str) -> LocalAccount:
    """Return the account of a name: the same in every run, and worthless everywhere else."""
    key = tagged_digest("thoracle/test-account", name)
    signer: LocalAccount = Account.from_key(key)
    return signer


def seal_key(name: str) -> SealKey:
    """Return the sealing key of a name."""
    parts = [tagged_digest("thoracle/test-key", name, i) for i in range(3)]
    return key_from_seed(b"".join(parts))


def initial_model() -> Model:
    """Return the federation's first model: small, and nowhere zero."""
    rng = np.random.default_rng(7)
    return {name: rng.normal(0.0, 0.1, shape).astype(np.float32) for name, shape in SHAPES.items()}


def with_moments(model: Model) -> Model:
    """Return zero moments of every tensor of a model."""
    return {
        moment: np.zeros_like(array)
        for name, array in model.items()
        for moment in moment_names(name)
    }


class ReadCache:
    """Answers repeated reads from memory: what a block's hash fixes does not change.

    Five parties ask the in-process node the same questions, and its EVM is slow. An answer is kept
    under the hash of the block that the question names (its number, or the head), so it stays right
    when the chain is rewound: another history has other hashes. Whatever depends on the node's
    clock ("pending") is asked anew. ``fault`` is told each method's name first, and may raise what
    a failing node would; ``lie`` may change an answer, as a dishonest one would.
    """

    NAMED: Mapping[str, int] = {"eth_call": 1, "eth_getCode": 1, "eth_getBlockByNumber": 0}
    """Methods whose parameter at this place names the block."""
    OF_HEAD = frozenset({"eth_blockNumber", "eth_getTransactionReceipt"})
    CONSTANTS = frozenset({"eth_chainId", "eth_accounts"})

    def __init__(self, chain: DevChain) -> None:
        self.fault: Callable[[str], None] = lambda method: None
        self.lie: Callable[[str, RPCResponse], RPCResponse] = lambda method, answer: answer
        self._answers: dict[str, RPCResponse] = {}
        self._chain = chain.tester.backend.chain
        # web3's own layers look up names and cast results at each question; no one here needs them.
        chain.web3.middleware_onion.clear()
        provider = chain.web3.provider
        self._ask: Callable[[RPCEndpoint, Any], RPCResponse] = provider.make_request
        provider.make_request = self._answer  # type: ignore[method-assign]

    def _moment(self, method: str, params: Any) -> str | None:
        """Return what fixes the answer besides the question; None if nothing does."""
        if method in self.CONSTANTS:
            return ""
        block: object = "latest"
        if method == "eth_getLogs":
            block = params[0].get("toBlock")
        elif method in self.NAMED:
            block = params[self.NAMED[method]]
        elif method not in self.OF_HEAD:
            return None
        head = self._chain.get_canonical_head()
        if block == "latest":
            return str(head.hash.hex())
        number = int(block, 16) if str(block).startswith("0x") else block  # type: ignore[call-overload]
        if not isinstance(number, int) or number > head.block_number:
            return None
        return str(self._chain.chaindb.get_canonical_block_hash(number).hex())

    def _answer(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        self.fault(method)
        moment = self._moment(method, params)
        if moment is None:
            return self.lie(method, self._ask(method, params))
        key = f"{moment} {method} {params!r}"
        if key not in self._answers:
            answer = self._ask(method, params)
            if "error" in answer or answer.get("result") is None:
                return answer
            self._answers[key] = answer
        return self.lie(method, copy.deepcopy(self._answers[key]))


TERMS = DataTerms(findings=("Mass", "Nodule"), preprocessing={"size": 8, "clahe": "off"})
"""How every hospital's data here were prepared."""


class TinyTrainer:
    """Trains by drifting: a direction common to the federation plus the hospital's own.

    Two honest hospitals' updates have a cosine of about 0.8, as similar cohorts' have.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def check(self, config: Mapping[str, object]) -> None:
        """Refuse other data terms than this federation's hospitals have, as a real trainer does."""
        check_data(TERMS, config)

    def __call__(self, base: Model, config: Mapping[str, object], seed: int, /) -> TrainedUpdate:
        """Return the base, moved by about 0.05 a coordinate."""
        common = np.random.default_rng([int(str(config["round"])), 1])
        own = np.random.default_rng([int(str(config["round"])), *self._name.encode()])
        model = {
            name: array
            + np.float32(0.05) * common.standard_normal(array.shape, dtype=np.float32)
            + np.float32(0.025) * own.standard_normal(array.shape, dtype=np.float32)
            for name, array in base.items()
        }
        travels = config.get(TRAVELS)
        if isinstance(travels, list):
            model = {name: model[name] for name in travels}
        plan = config["privacy"]
        run = {name: plan[name] for name in MECHANISM} if isinstance(plan, dict) else {}
        return TrainedUpdate(
            model=model, mechanism=Mechanism(**run), metrics={"loss": 0.5, "secret": 1.0}
        )


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a world is made of."""

    hospitals: int = 3
    plan: RoundPlan = field(
        default_factory=lambda: RoundPlan(
            rounds=100,
            learner={"name": "tiny"},
            data=TERMS.to_config(),
            screen=ScreenPolicy(),
            metrics=("loss",),
            max_norm=4.0,
            coordinate_drift=0.5,
            commit_window=COMMIT_WINDOW,
            attest_window=ATTEST_WINDOW,
        )
    )
    rules: Mapping[str, int] = field(default_factory=lambda: {"max_silent_share": 4000})
    unit: Unit = Unit.NONE


PHASED = Setting(
    plan=replace(
        Setting().plan,
        phases=(
            PhasePlan(name="body", rounds=1, travels=("conv.weight",), max_norm=4.0),
            PhasePlan(
                name="head",
                rounds=99,
                travels=("head.bias", "norm"),
                metrics=("loss",),
                max_norm=3.0,
            ),
        ),
    )
)
"""Two phases: one round of the convolution, then the rest of the model."""


@dataclass(frozen=True)
class Mark:
    """A moment of a world: chain and disk."""

    chain: int
    disk: Path
    now: int


class World:
    """One federation.

    Attributes:
        chain: the in-process chain.
        ledger: the federation's contract on it.
        accounts: of the hospitals, by seat.
        hospitals: the agents, by seat.
        coordinator: the coordinator.
        boss: the coordinator's account.
        node: between all parties and the chain's node; where a node's faults are put.
        key: the coordinator's sealing key (an auditor with a copy can replay).
    """

    def __init__(self, folder: Path, setting: Setting | None = None) -> None:
        self.setting = setting or Setting()
        self.folder = folder
        self.chain = DevChain()
        self.node = ReadCache(self.chain)
        self.boss = account("coordinator")
        self.accounts = [account(f"hospital {i}") for i in range(self.setting.hospitals)]
        self.model = initial_model()
        if self.setting.plan.server.adaptive:
            self.model |= with_moments(self.model)
        self.manifest = Manifest.of_model(self.model)
        self.key = seal_key("coordinator")
        data = encode_model(self.model)
        rules = Rules(
            federation_id=tagged_digest("thoracle/test-federation"),
            initial_model=sha256(data),
            privacy_unit=self.setting.unit,
            **self.setting.rules,
        )
        addresses = [str(signer.address) for signer in self.accounts]
        self.ledger = Ledger.deploy(self.chain.web3, self.boss, rules, addresses)
        self._anchors = self.ledger.anchors
        self._rebuild()
        self.store.models.put(data)
        for signer, examples in zip(self.accounts, self._examples(), strict=True):
            self.ledger.register(signer, CAP, 0, examples)

    def _examples(self) -> Iterable[int]:
        return (EXAMPLES[i % len(EXAMPLES)] for i in range(self.setting.hospitals))

    # ---- parts ----

    @property
    def run(self) -> Path:
        """The coordinator's run folder."""
        return self.folder / "run"

    def _rebuild(self) -> None:
        """Make fresh processes over what chain and disk hold, as after a restart."""
        self.ledger = Ledger(self.chain.web3, self._anchors)
        self.store = RunStore(self.run)
        self.coordinator = self.make_coordinator()
        self.hospitals = [self.make_hospital(i) for i in range(self.setting.hospitals)]

    def make_coordinator(self, **changes: object) -> Coordinator:
        """Return a coordinator over this world's run folder, with some parts exchanged."""
        parts: dict[str, object] = {
            "store": self.store,
            "ledger": self.ledger,
            "account": self.boss,
            "keyring": Keyring(keys=(StoredSealKey(epoch=1, retired=False, key=self.key),)),
            "plan": self.setting.plan,
            "manifest": self.manifest,
            "wait": self.travel_to,
        }
        return Coordinator(**{**parts, **changes})  # type: ignore[arg-type]

    def make_hospital(self, seat: int, **changes: object) -> Hospital:
        """Return the hospital of a seat, with some parts exchanged."""
        parts: dict[str, object] = {
            "home": self.folder / "hospitals" / str(seat),
            "ledger": self.ledger,  # one view of one chain: attacks on views bring their own
            "account": self.accounts[seat],
            "trainer": TinyTrainer(f"hospital {seat}"),
            "policy": Policy(metrics=frozenset({"loss"}), accept_quorum_only=True),
            "clock": self.chain.clock,
            "patience": 0.0,
        }
        if self.setting.unit is not Unit.NONE:
            home = self.folder / "hospitals" / str(seat)
            home.mkdir(parents=True, exist_ok=True)
            parts["guard"] = PrivacyAccountGuard(home / "accountant.sqlite")
        return Hospital(**{**parts, **changes})  # type: ignore[arg-type]

    # ---- time ----

    def travel_to(self, until: int) -> None:
        """Let the chain's clock reach a Unix second."""
        left = until - self.chain.time()
        if left > 0:
            self.chain.travel(left)

    def restart(self) -> None:
        """Let every process die and start again over the same chain and disk."""
        self.store.close()
        self._rebuild()

    def snapshot(self) -> Mark:
        """Remember chain and disk as they are."""
        self.store.close()
        disk = self.folder.parent / f"{self.folder.name}-mark-{self.chain.web3.eth.block_number}"
        shutil.rmtree(disk, ignore_errors=True)
        shutil.copytree(self.folder, disk)
        mark = Mark(self.chain.snapshot(), disk, self.chain.time())
        self._rebuild()
        return mark

    def restore(self, mark: Mark) -> None:
        """Rewind chain and disk; every process starts again."""
        self.store.close()
        self.chain.revert(mark.chain)
        self._mend_indices()
        shutil.rmtree(self.folder)
        shutil.copytree(mark.disk, self.folder)
        self._rebuild()

    def _mend_indices(self) -> None:
        """Tell py-evm again which blocks, and which transactions, are the chain's.

        On a jump between forks it stops mending its index of numbers at the first block that looks
        right, and forgets the transactions that are in both forks.
        """
        database = self.chain.tester.backend.chain.chaindb
        header = database.get_canonical_head()
        while header.block_number > 0:
            database._add_block_number_to_hash_lookup(database.db, header)
            for index, sent in enumerate(database.get_block_transaction_hashes(header)):
                database._add_transaction_to_canonical_chain(database.db, sent, header, index)
            header = database.get_block_header_by_hash(header.parent_hash)

    # ---- honest play ----

    def train(self, order: TrainOrder, seats: Iterable[int] | None = None) -> list[TrainReply]:
        """Let hospitals train and commit; return their replies."""
        chosen = range(len(self.hospitals)) if seats is None else seats
        return [self.hospitals[seat].train(order) for seat in chosen]

    def attest(
        self, order: ProposalOrder, seats: Iterable[int] | None = None
    ) -> dict[int, AttestReply]:
        """Let hospitals check the sum and answer; return their replies by seat."""
        chosen = range(len(self.hospitals)) if seats is None else seats
        return {seat: self.hospitals[seat].attest(order) for seat in chosen}

    def submit(self, replies: Iterable[TrainReply]) -> None:
        """Bring replies to the coordinator."""
        for reply in replies:
            self.coordinator.receive(reply)

    def play(self) -> RoundResult:
        """Play one honest round to its end and return what came of it."""
        self.submit(self.train(self.coordinator.open_round()))
        return self.conclude()

    def conclude(self, seats: Iterable[int] | None = None) -> RoundResult:
        """Play the rest of a round whose replies are in; ``seats`` are asked to attest."""
        self.coordinator.close()
        if self.coordinator.propose() is not None:
            for reply in self.attest(self.coordinator.serve(), seats).values():
                self.coordinator.answered(reply)
        return self.coordinator.finish()

    def clear(self) -> None:
        """Bring a round that an attack left open to its end, as anybody may after the deadline."""
        state = self.ledger.round()
        if state.phase is Phase.COMMITTING:
            self.ledger.abort(self.boss, state.number)
        elif state.phase is Phase.ATTESTING:
            self.coordinator.finish()
