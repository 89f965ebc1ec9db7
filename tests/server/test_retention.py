"""What is erased in its time is told as erased; what is deleted otherwise is a failed audit."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.audit import AuditReport, audit
from ledger.audit_chain import audit_chain
from ledger.errors import ConfigError, PolicyViolation
from ledger.findings import Book
from ledger.replica import History
from ledger.retention import Retention
from server.retention import Erasure, erase, plan_erasure
from tests.attacks.auditing import facts_of
from tests.world import Mark, Setting, World

ROUNDS = 4
LIVES = Retention(evidence=1, models=2)


@pytest.fixture(scope="module")
def played() -> Iterator[tuple[World, Mark, History]]:
    memory = Path("/dev/shm")  # noqa: S108 - many fsyncs, nothing secret
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    setting = Setting(hospitals=2, plan=replace(Setting().plan, retention=LIVES))
    world = World(folder / "world", setting)
    for _ in range(ROUNDS):
        assert len(world.play().accepted) == 2
    history = audit_chain(facts_of(world), Book()).history
    assert history is not None
    yield world, world.snapshot(), history
    world.store.close()
    shutil.rmtree(folder)


@pytest.fixture
def world(played: tuple[World, Mark, History]) -> World:
    played[0].restore(played[1])
    return played[0]


def report_of(world: World) -> AuditReport:
    return audit(facts_of(world))


def test_what_is_over_follows_from_the_chain(
    world: World, played: tuple[World, Mark, History]
) -> None:
    plan = plan_erasure(world.store, played[2])
    assert plan.rounds == (1, 2, 3)
    assert len(plan.evidence) == 6
    assert len(plan.sums) == 2
    assert len(plan.models) == 2, "round 3 still needs the model of round 2"
    assert plan.bytes > 0
    assert plan_erasure(world.store, played[2], before=2).rounds == (1,)
    with pytest.raises(ConfigError, match="round 4 is within its declared life"):
        plan_erasure(world.store, played[2], before=5)


def test_erased_as_declared_is_no_failure(
    world: World, played: tuple[World, Mark, History]
) -> None:
    assert report_of(world).reached == ("chain", "models", "replay")
    assert not report_of(world).erased
    plan = plan_erasure(world.store, played[2])
    erase(world.store, plan)
    erase(world.store, plan)  # a second time changes nothing
    assert plan_erasure(world.store, played[2]).evidence == ()
    report = report_of(world)
    assert report.clean, report.verdict
    assert report.erased == (1, 2, 3)
    assert "3 rounds were erased as declared" in report.verdict
    notes = {f.error for f in report.findings if f.check == "erased as declared"}
    assert notes == {"EvidenceErased"}
    assert report.reached == ("chain", "models", "replay"), "round 4 is still replayed"
    assert report.passed["models"]["model arithmetic"] == 2
    assert len(world.play().accepted) == 2, "the run goes on"


def test_what_is_left_is_still_verified(world: World, played: tuple[World, Mark, History]) -> None:
    erase(world.store, plan_erasure(world.store, played[2]))
    path = world.store.sums.path(next(iter(world.store.sums.digests())))
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    report = report_of(world)
    assert not report.clean
    assert report.failures[0].error == "EvidenceMismatch"


@pytest.mark.parametrize("folder", ["evidence", "sums", "models"])
def test_deleting_before_its_time_fails(
    world: World, played: tuple[World, Mark, History], folder: str
) -> None:
    last = played[2].rounds[-1]
    assert last.proposal is not None
    digest = {
        "evidence": last.commits[0].seal_digest,
        "sums": last.proposal.sum_digest,
        "models": last.proposal.model_digest,
    }[folder]
    getattr(world.store, folder).path(digest).unlink()
    report = report_of(world)
    assert not report.clean
    assert "EvidenceMissing" in {f.error for f in report.failures}


def test_a_level_of_which_nothing_is_left_is_not_reached(
    played: tuple[World, Mark, History], world: World
) -> None:
    """Lives are declared, but nobody may pass off an empty folder as a checked one."""
    book_of_rounds = [past.opening.round for past in played[2].rounds]
    assert book_of_rounds == [1, 2, 3, 4]
    for folder in ("models", "sums", "evidence"):
        for digest in list(getattr(world.store, folder).digests()):
            getattr(world.store, folder).path(digest).unlink()
    report = report_of(world)
    assert not report.clean, "the newest rounds are not over"


def test_an_erasure_cut_short_is_ended_by_doing_it_again(
    world: World, played: tuple[World, Mark, History]
) -> None:
    from ledger.steps import Kind, Phase, watched

    class Cut(BaseException):
        pass

    plan = plan_erasure(world.store, played[2])
    seen: list[str] = []

    def after_three(kind: Kind, what: str, phase: Phase, /) -> None:
        if kind == "remove" and phase == "before":
            seen.append(what)
            if len(seen) == 3:
                raise Cut

    with watched(after_three), pytest.raises(Cut):
        erase(world.store, plan)
    assert report_of(world).clean
    rest = plan_erasure(world.store, played[2])
    assert 0 < len(rest.evidence) < len(plan.evidence)
    erase(world.store, rest)
    assert plan_erasure(world.store, played[2]) == Erasure(
        rounds=(1, 2, 3), evidence=(), sums=(), models=()
    )


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 100), st.integers(0, 100))
def test_nothing_is_over_before_its_time(e: int, m: int, number: int, closed: int) -> None:
    over = Retention(evidence=e, models=m).over(number, closed)
    assert ("evidence" in over) == (e > 0 and closed >= number + e)
    assert ("models" in over) == (m > 0 and closed >= number + m)


@pytest.mark.parametrize("value", [-1, 1.5, True, "1", 10**7])
def test_a_life_is_a_number_of_rounds(value: object) -> None:
    with pytest.raises(ConfigError):
        Retention(evidence=value)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        Retention.of_config({"retention": {"evidence": 1}})


def test_hospitals_refuse_a_retention_they_cannot_read(world: World) -> None:
    from client.terms import RoundTerms
    from ledger.canonical import canonical_json

    config = world.setting.plan.config(world.manifest, 5)
    assert RoundTerms.parse(canonical_json(config)).config["retention"] == LIVES.to_config()
    with pytest.raises(PolicyViolation):
        RoundTerms.parse(canonical_json({**config, "retention": {"evidence": "for ever"}}))
    plain = replace(world.setting.plan, retention=Retention()).config(world.manifest, 5)
    assert "retention" not in plain


def test_the_command_erases_and_destroys(world: World, played: tuple[World, Mark, History]) -> None:
    """On a run folder as a simulation leaves it; afterwards even the key can go."""
    import json

    from typer.testing import CliRunner

    from ledger.bundle import FILE, encode_bundle
    from ledger.canonical import canonical_json
    from ledger.files import atomic_write
    from ledger.keys import SCRYPT_N_SIMULATION, save_seal_key
    from server.home import CoordinatorSpec
    from tests.attacks.auditing import record_of
    from thoracle import build_app

    anchors = world.ledger.anchors
    atomic_write(world.run / FILE, encode_bundle(record_of(world), anchors))
    atomic_write(world.run / "run.json", canonical_json({"anchors": anchors.to_record()}))
    atomic_write(world.run / "keys" / "password", b"secret", mode=0o600)
    save_seal_key(
        world.run / "keys" / "seal-1.json", world.key, "secret", epoch=1,
        scrypt_n=SCRYPT_N_SIMULATION,
    )  # fmt: skip
    world.store.close()

    def said(*words: str) -> dict[str, object]:
        told = CliRunner().invoke(build_app(), ["audit", *words, str(world.run), "--json"])
        assert told.exit_code == 0, told.output
        found: dict[str, object] = json.loads(told.stdout)
        return found

    would = said("erase", "--dry-run")
    assert (would["evidence"], would["done"]) == (6, False)
    assert said("verify")["reached"] == ["chain", "models", "replay"]
    assert said("erase") == {**would, "done": True}
    assert said("verify")["clean"] is True
    plan = replace(world.setting.plan, rounds=ROUNDS + 1)
    spec = CoordinatorSpec(rpc="", anchors=anchors, plan=plan, manifest=world.manifest)
    spec.write(world.run)
    early = CliRunner().invoke(build_app(), ["audit", "erase", str(world.run), "--keys"])
    assert "4 of 5 rounds have ended" in str(early.exception)
    replace(spec, plan=replace(plan, rounds=ROUNDS)).write(world.run)
    assert said("erase", "--dry-run", "--keys")["keys"] == ["seal-1.json"]
    assert said("verify")["reached"] == ["chain", "models", "replay"]  # still there
    assert said("erase", "--keys")["keys"] == ["seal-1.json"]
    after = said("verify")
    assert (after["clean"], after["reached"]) == (True, ["chain", "models"])
