"""Rows of the coordinator's verification and screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ledger.canonical import tagged_digest
from ledger.errors import (
    CommitMissing,
    CommitWindowOpen,
    DataMismatch,
    DigestMismatch,
    DuplicateUpdate,
    InertUpdate,
    NonCanonicalUpdate,
    NormExceeded,
    NothingReceived,
    OpeningMismatch,
    OutlierUpdate,
    OversizeUpdate,
    PolicyError,
    PolicyViolation,
    PrivacyPolicyViolation,
    SealBroken,
    ThoracleError,
    UndeclaredOutput,
    WeakNoise,
    WrongBaseModel,
    WrongDomain,
    WrongRound,
)
from ledger.manifest import Manifest, decode_model
from ledger.statement import Mechanism, Outcome
from server.plan import RoundPlan
from server.screen import ScreenPolicy
from tests.attacks.case import ACCEPTED, FILES, REFUSED, Case, Scene
from tests.attacks.forge import ROGUE, Forgery, honest_q
from tests.world import PRIVACY, TERMS, World

ROOM = "server: verify and screen"
ADMITTED = {"Committed": 1, "Proposed": 1, "Attested": 3, "Finalised": 1}


def _row(
    name: str,
    tampers: str,
    error: type[ThoracleError],
    forge: Callable[[Scene], Forgery],
    **parts: Any,
) -> Case:
    """Return a row whose forged update is refused while the round goes on."""

    def play(scene: Scene) -> None:
        forge(scene).submit()
        scene.finish()
        scene.refused(ROGUE)

    settings = {"stage": "two", "records": REFUSED, "files": FILES} | parts
    return Case(
        name=name,
        room=ROOM,
        tampers=tampers,
        caught="coordinator",
        error=error,
        play=play,
        **settings,
    )


def _tampered(**tamper: Callable[[Any], Any]) -> Callable[[Scene], Forgery]:
    return lambda scene: Forgery(scene.world, **tamper)


def _opening(**changes: Callable[[World], Any]) -> Callable[[Scene], Forgery]:
    """Commit to the digest of an opening in which one part is foreign."""

    def forge(scene: Scene) -> Forgery:
        foreign = {name: change(scene.world) for name, change in changes.items()}
        return Forgery(scene.world, opening=lambda own: own, foreign=foreign)

    return forge


def _copied(scene: Scene) -> Forgery:
    """Take the opening digest of another hospital's commit for one's own."""
    commits = scene.world.ledger.commits(scene.world.ledger.round().number)
    victim = commits[scene.world.accounts[0].address]
    return Forgery(scene.world, opening=lambda _: victim.opening_digest)


def _copied_whole(scene: Scene) -> None:
    """Commit to, and send, another hospital's ciphertext unopened."""
    world = scene.world
    number = world.ledger.round().number
    victim = world.ledger.commits(number)[world.accounts[0].address]
    ciphertext = world.store.evidence.get(victim.seal_digest)
    Forgery(world, sealed=lambda _: ciphertext).submit()
    scene.finish()
    scene.refused(ROGUE)


def _no_commit(scene: Scene) -> None:
    Forgery(scene.world, commit=lambda _: None).submit()
    scene.finish()
    scene.refused(ROGUE)


def _nothing_sent(scene: Scene) -> None:
    Forgery(scene.world, reply=lambda reply: reply)
    scene.finish()
    scene.refused(ROGUE)


def _sent_twice(scene: Scene) -> None:
    first = Forgery(scene.world, reply=lambda reply: reply)
    first.submit()
    second = replace(first.reply, ciphertext=first.reply.ciphertext + b"\0")
    with scene.caught_by("coordinator"):
        scene.world.coordinator.receive(second)
    _accept(scene)


def _accept(scene: Scene) -> None:
    """End the round with the forged update accepted; its author attests by hand."""
    world = scene.world
    world.coordinator.close()
    proposal = world.coordinator.propose()
    assert proposal is not None
    assert proposal.accepted == 0b111
    world.attest(world.coordinator.serve(), (0, 1))
    world.ledger.attest(world.accounts[ROGUE], proposal.round, world.ledger.round().proposed_head)
    assert world.coordinator.finish().outcome is Outcome.SUM_VERIFIED


def _impostor(scene: Scene) -> None:
    """Somebody who has committed nothing sends a reply in an honest hospital's name, first."""
    world = scene.world
    honest = world.hospitals[ROGUE].train(world.coordinator.order())
    world.coordinator.receive(replace(honest, ciphertext=b"\0" * 2000))
    world.coordinator.receive(honest)
    assert world.conclude().accepted[ROGUE] == honest.hospital


def _flood(scene: Scene) -> None:
    reply = Forgery(scene.world, reply=lambda reply: reply).reply
    with scene.caught_by("coordinator"):
        scene.world.coordinator.receive(replace(reply, ciphertext=bytes(1 << 22)))
    scene.finish()


def _stale_reply(scene: Scene) -> None:
    reply = Forgery(scene.world, reply=lambda reply: replace(reply, round=1)).reply
    with scene.caught_by("coordinator"):
        scene.world.coordinator.receive(reply)
    scene.finish()


def _colluding_copy(scene: Scene) -> None:
    Forgery(scene.world, q=lambda _: honest_q(scene.world, 0)).submit()
    scene.finish(Outcome.ABORTED)
    reasons = scene.reasons()
    assert reasons.pop(0) == reasons[ROGUE]
    scene.refused(ROGUE)


def _backdoor(scene: Scene) -> None:
    """A few coordinates moved hard, within the norm: accepted, and its influence is bounded."""
    world = scene.world
    number = world.ledger.round().number
    honest = [honest_q(world, seat).astype(np.float64) for seat in range(3)]
    base = _vector(world, world.ledger.model())

    def implant(q: NDArray[np.int16]) -> NDArray[np.int16]:
        changed = q.copy()
        changed[:4] = 20_000
        return changed

    Forgery(world, q=implant).submit()
    _accept(scene)
    opening = world.ledger.opening(number)
    commits = world.ledger.commits(number)
    weights = [commits[str(signer.address)].weight for signer in world.accounts]
    step = 2.0 ** -world.setting.plan.quantiser(world.manifest).step_exponent
    without = base + sum(w * q for w, q in zip(weights, honest, strict=True)) * step / sum(weights)
    moved = float(np.linalg.norm(_vector(world, world.ledger.model()) - without))
    assert 0.01 < moved <= 2 * opening.norm_bound * step * weights[ROGUE] / sum(weights)


def _vector(world: World, digest: bytes) -> NDArray[np.float64]:
    model = decode_model(world.store.models.get(digest), world.manifest)
    return world.manifest.flatten(model).astype(np.float64)


def _weak_noise(scene: Scene) -> None:
    """The round's screen knows what norm the declared noise alone would give."""
    world = scene.world
    plan = replace(world.setting.plan, screen=ScreenPolicy(noise_floor=20_000.0))
    world.coordinator = world.make_coordinator(plan=plan)
    world.submit(world.train(world.coordinator.open_round(), (0, 1)))
    Forgery(world, q=lambda q: (q // 8).astype(np.int16)).submit()
    scene.finish()
    scene.refused(ROGUE)


def _undeclared(scene: Scene) -> None:
    Forgery(
        scene.world, reply=lambda reply: replace(reply, metrics={"patients_with_hernia": 3.0})
    ).submit()
    scene.finish()
    scene.refused(ROGUE)


def _undeclared_field(scene: Scene) -> None:
    """A field beside the reply's own, as it would come off the wire."""
    reply = Forgery(scene.world, reply=lambda reply: reply).reply
    try:
        scene.world.coordinator.receive({**reply.to_record(), "image": b"pixels"})
    except UndeclaredOutput:
        pass
    else:
        raise AssertionError("the field was let in")
    scene.finish()
    scene.refused(ROGUE)


def _malicious_order(scene: Scene) -> None:
    """The coordinator's configuration asks for a number that the hospital's policy keeps."""
    world = scene.world
    plan = replace(world.setting.plan, metrics=("loss", "secret"))
    order = world.make_coordinator(plan=plan).open_round()
    with scene.caught_by("hospital"):
        world.hospitals[0].train(order)


def _foreign_preprocessing(scene: Scene) -> None:
    """The round means films of another preprocessing than every hospital's data were made with."""
    world = scene.world
    other = replace(TERMS, preprocessing={**TERMS.preprocessing, "clahe": "on"})
    plan = replace(world.setting.plan, data=other.to_config())
    order = world.make_coordinator(plan=plan).open_round()
    with scene.caught_by("hospital"):
        world.hospitals[0].train(order)


def _swapped_findings(scene: Scene) -> None:
    """The round's outputs mean the same findings in another order: all labels would be wrong."""
    world = scene.world
    other = replace(TERMS, findings=TERMS.findings[::-1])
    plan = replace(world.setting.plan, data=other.to_config())
    order = world.make_coordinator(plan=plan).open_round()
    with scene.caught_by("hospital"):
        world.hospitals[0].train(order)


@dataclass(frozen=True, kw_only=True)
class _Misconfigured(RoundPlan):
    """A plan whose screen lost a threshold on its way into the configuration."""

    def config(self, manifest: Manifest, number: int) -> dict[str, object]:
        config = super().config(manifest, number)
        screen = dict(self.screen.to_config())
        del screen["mad_factor"]
        return config | {"screen": screen}


def _misconfigured(scene: Scene) -> None:
    world = scene.world
    plan = world.setting.plan
    broken = _Misconfigured(**{name: getattr(plan, name) for name in plan.__dataclass_fields__})
    world.coordinator = world.make_coordinator(plan=broken)
    world.submit(world.train(world.coordinator.open_round()))
    with scene.caught_by("coordinator"):
        world.coordinator.propose()
    assert world.ledger.proposal(2) is None


def _rushing(scene: Scene) -> None:
    with scene.caught_by("coordinator"):
        scene.world.coordinator.propose()


def _weak_claim(commit: dict[str, Any]) -> dict[str, Any]:
    run = {name: PRIVACY[name] for name in ("sample_rate", "steps", "delta")}
    weak = Mechanism(epsilon=10**9, noise_multiplier=500_000, **run)  # type: ignore[arg-type]
    return {**commit, "mechanism": weak}


def _cheap_claim(commit: dict[str, Any]) -> dict[str, Any]:
    run = {name: PRIVACY[name] for name in PRIVACY if name not in ("unit", "rounds")}
    return {**commit, "mechanism": Mechanism(epsilon=1_064_498, **run)}  # type: ignore[arg-type]


def _foreign_domain(scene: Scene) -> Forgery:
    world = scene.world
    other = replace(world.ledger.domain, federation_id=tagged_digest("another federation"))
    world.coordinator = world.make_coordinator(other_domains=(other,))
    return _opening(domain=lambda _: other)(scene)


CASES = (
    Case(
        name="no_commit",
        room=ROOM,
        tampers="an update is sent that was never committed",
        caught="coordinator",
        error=CommitMissing,
        stage="two",
        play=_no_commit,
        records={"Proposed": 1, "Attested": 2, "Finalised": 1},
        files=FILES,
    ),
    Case(
        name="nothing_sent",
        room=ROOM,
        tampers="a commit whose ciphertext never arrives",
        caught="coordinator",
        error=NothingReceived,
        stage="two",
        play=_nothing_sent,
        records=REFUSED,
        files={name: n for name, n in FILES.items() if name != "evidence"},
    ),
    _row(
        "ciphertext_differs",
        "another ciphertext is sent than was committed",
        DigestMismatch,
        _tampered(reply=lambda r: replace(r, ciphertext=r.ciphertext[:-1] + b"\0")),
    ),
    _row(
        "opening_differs",
        "another opening digest is committed than the update's",
        OpeningMismatch,
        _tampered(opening=lambda _: bytes(range(32))),
    ),
    _row(
        "copied_commit_freerider",
        "another hospital's opening digest is committed",
        OpeningMismatch,
        _copied,
    ),
    Case(
        name="copied_ciphertext_freerider",
        room=ROOM,
        tampers="another hospital's ciphertext is committed and sent",
        caught="coordinator",
        error=SealBroken,
        stage="two",
        play=_copied_whole,
        records=REFUSED,
        files={name: n for name, n in FILES.items() if name != "evidence"},
    ),
    _row(
        "stale_round_replay",
        "the committed opening is of the round before",
        WrongRound,
        _opening(round=lambda _: 1),
    ),
    Case(
        name="stale_reply",
        room=ROOM,
        tampers="the reply names the round before",
        caught="coordinator",
        error=WrongRound,
        stage="two",
        play=_stale_reply,
        records=REFUSED,
        files={name: n for name, n in FILES.items() if name != "evidence"},
    ),
    _row(
        "wrong_base_model",
        "the committed opening is of an earlier base model",
        WrongBaseModel,
        _opening(base_model=lambda world: world.ledger.opening(1).base_model),
    ),
    _row(
        "cross_chain_replay",
        "the committed opening is of another federation",
        WrongDomain,
        _foreign_domain,
    ),
    _row(
        "int16_min",
        "one coordinate is -32768",
        NonCanonicalUpdate,
        _tampered(q=lambda q: np.concatenate([np.array([-32768], np.int16), q[1:]])),
    ),
    Case(
        name="sent_twice",
        room=ROOM,
        tampers="a second, different update in one round",
        caught="coordinator",
        error=DuplicateUpdate,
        stage="two",
        play=_sent_twice,
        records=ADMITTED,
        files=FILES,
    ),
    Case(
        name="impostor_reply",
        room=ROOM,
        tampers="rubbish in an honest hospital's name arrives before its own reply",
        caught="",
        error=None,
        stage="two",
        play=_impostor,
        records=ACCEPTED,
        files={**FILES, "evidence": 2},
    ),
    Case(
        name="reply_flood",
        room=ROOM,
        tampers="a ciphertext longer than any honest one",
        caught="coordinator",
        error=OversizeUpdate,
        stage="two",
        play=_flood,
        records=REFUSED,
        files={name: n for name, n in FILES.items() if name != "evidence"},
    ),
    _row("zero_update_freerider", "the update is zero", InertUpdate, _tampered(q=np.zeros_like)),
    _row(
        "scaled_x100",
        "the update is multiplied by 100",
        NormExceeded,
        _tampered(q=lambda q: np.clip(q.astype(np.int64) * 100, -32767, 32767).astype(np.int16)),
    ),
    _row("sign_flip", "the update's sign", OutlierUpdate, _tampered(q=lambda q: -q)),
    Case(
        name="colluding_copy",
        room=ROOM,
        tampers="an update that is also another hospital's: both are refused, too few are left",
        caught="coordinator",
        error=DuplicateUpdate,
        stage="two",
        play=_colluding_copy,
        records={"Committed": 1, "RoundAborted": 1},
        files=FILES,
        lasting=True,
    ),
    Case(
        name="small_backdoor_under_norm",
        room=ROOM,
        tampers="four coordinates are moved hard, within the norm bound",
        caught="",
        error=None,
        stage="two",
        play=_backdoor,
        records=ADMITTED,
        files=FILES,
    ),
    _row(
        "weak_dp_claim",
        "less noise is declared than the round asks",
        PrivacyPolicyViolation,
        _tampered(commit=_weak_claim),
        stage="private/two",
    ),
    _row(
        "cheap_dp_claim",
        "less epsilon is charged than the declared mechanism costs",
        PrivacyPolicyViolation,
        _tampered(commit=_cheap_claim),
        stage="private/two",
    ),
    Case(
        name="weak_noise",
        room=ROOM,
        tampers="an update far smaller than the noise its mechanism declares",
        caught="coordinator",
        error=WeakNoise,
        stage="idle",
        play=_weak_noise,
        records={"RoundOpened": 1, **REFUSED, "Committed": 3},
        files={**FILES, "configs": 1, "evidence": 3},
    ),
    Case(
        name="undeclared_metric",
        room=ROOM,
        tampers="the reply carries a number nobody asked for",
        caught="coordinator",
        error=UndeclaredOutput,
        stage="two",
        play=_undeclared,
        records=REFUSED,
        files=FILES,
    ),
    Case(
        name="undeclared_field",
        room=ROOM,
        tampers="the reply carries a field of its own",
        caught="coordinator",
        error=UndeclaredOutput,
        stage="two",
        play=_undeclared_field,
        records=REFUSED,
        files={name: n for name, n in FILES.items() if name != "evidence"},
    ),
    Case(
        name="malicious_app_code",
        room=ROOM,
        tampers="the server asks for a number that the hospital's policy keeps",
        caught="hospital",
        error=PolicyViolation,
        stage="idle",
        play=_malicious_order,
        records={"RoundOpened": 1},
        files={"configs": 1},
    ),
    Case(
        name="foreign_preprocessing",
        room=ROOM,
        tampers="the round's films are preprocessed otherwise than the hospital's",
        caught="hospital",
        error=DataMismatch,
        stage="idle",
        play=_foreign_preprocessing,
        records={"RoundOpened": 1},
        files={"configs": 1},
    ),
    Case(
        name="swapped_findings",
        room=ROOM,
        tampers="the round's outputs mean the findings in another order",
        caught="hospital",
        error=DataMismatch,
        stage="idle",
        play=_swapped_findings,
        records={"RoundOpened": 1},
        files={"configs": 1},
    ),
    Case(
        name="filter_misconfigured",
        room=ROOM,
        tampers="the screen's policy lost a threshold",
        caught="coordinator",
        error=PolicyError,
        stage="idle",
        play=_misconfigured,
        records={"RoundOpened": 1, "Committed": 3},
        files={"configs": 1, "evidence": 3},
        lasting=True,
    ),
    Case(
        name="rushing_submit",
        room=ROOM,
        tampers="the coordinator opens updates before the commit window has closed",
        caught="coordinator",
        error=CommitWindowOpen,
        stage="two",
        play=_rushing,
    ),
)
