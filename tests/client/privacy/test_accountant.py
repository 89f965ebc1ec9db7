"""The accountant: charged ahead, kept for good, never past the cap, never behind the chain."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.accountant import Accountant
from client.privacy_plan import PrivacyPlan, plan_noise
from client.private_guard import PrivacyAccountGuard
from ledger.epsilon import cumulative_micro
from ledger.errors import (
    AccountantRollback,
    BudgetExhausted,
    ConfigError,
    JournalCorrupt,
    PolicyError,
    PolicyViolation,
)
from ledger.statement import Mechanism, Unit

RUN = Mechanism(noise_multiplier=1_000_000, sample_rate=50_000_000, steps=20, delta=10_000_000)
CAP = 8_000_000


def test_charges_add_up_by_the_canonical_accountant_and_survive(tmp_path: Path) -> None:
    path = tmp_path / "accountant.sqlite"
    for number in (1, 2, 3):
        charged = Accountant(path).charge(number, RUN, on_chain=0, cap=CAP)
    assert charged.epsilon == cumulative_micro([RUN] * 3)[-1]
    assert Accountant(path).spent() == charged.epsilon
    assert path.stat().st_mode & 0o077 == 0
    assert list(Accountant(path).charges()) == [1, 2, 3]


def test_the_same_round_is_charged_once(tmp_path: Path) -> None:
    book = Accountant(tmp_path / "a.sqlite")
    first = book.charge(4, RUN, on_chain=0, cap=CAP)
    assert book.charge(4, RUN, on_chain=first.epsilon, cap=CAP) == first
    other = Mechanism(noise_multiplier=1, sample_rate=1, steps=1, delta=1)
    with pytest.raises(JournalCorrupt):
        book.charge(4, other, on_chain=0, cap=CAP)


def test_over_the_cap_nothing_is_charged(tmp_path: Path) -> None:
    book = Accountant(tmp_path / "a.sqlite")
    with pytest.raises(BudgetExhausted, match="nothing was trained"):
        book.charge(1, RUN, on_chain=0, cap=1000)
    assert book.spent() == 0


def test_a_restored_backup_is_noticed(tmp_path: Path) -> None:
    book = Accountant(tmp_path / "a.sqlite")
    charged = book.charge(1, RUN, on_chain=0, cap=CAP)
    fresh = Accountant(tmp_path / "b.sqlite")
    with pytest.raises(AccountantRollback, match="rolled back"):
        fresh.charge(2, RUN, on_chain=charged.epsilon, cap=CAP)


def test_an_opening_balance_counts(tmp_path: Path) -> None:
    book = Accountant(tmp_path / "a.sqlite", opening=2_000_000)
    assert book.spent() == 2_000_000
    charged = book.charge(1, RUN, on_chain=2_000_000, cap=CAP)
    assert charged.epsilon == cumulative_micro([RUN], 2_000_000)[-1]
    assert Accountant(tmp_path / "a.sqlite", opening=0).opening == 2_000_000


def test_another_federation_s_rounds_are_not_free(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    guard = PrivacyAccountGuard(path, federation="one@0x1")
    guard.accountant.charge(1, RUN, on_chain=0, cap=CAP)
    assert PrivacyAccountGuard(path, federation="one@0x1").accountant.spent() > 0
    with pytest.raises(PolicyError, match="another federation"):
        PrivacyAccountGuard(path, federation="two@0x2")


def test_two_charges_at_once_are_both_charged(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    books = [Accountant(path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        done = list(
            pool.map(
                lambda number: books[number - 1].charge(number, RUN, on_chain=0, cap=10**12),
                range(1, 5),
            )
        )
    totals = cumulative_micro([RUN] * 4)
    assert sorted(charged.epsilon for charged in done) == totals


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"not a database at all, whatever its name" * 30)
    with pytest.raises(JournalCorrupt):
        Accountant(path)


@settings(max_examples=15, deadline=None)
@given(
    noise=st.integers(500_000, 4_000_000),
    rate=st.integers(1_000_000, 300_000_000),
    steps=st.lists(st.integers(1, 50), min_size=1, max_size=4),
)
def test_epsilon_always_rises(
    tmp_path_factory: pytest.TempPathFactory, noise: int, rate: int, steps: list[int]
) -> None:
    book = Accountant(tmp_path_factory.mktemp("book") / "a.sqlite")
    last = 0
    for number, count in enumerate(steps, 1):
        run = Mechanism(noise_multiplier=noise, sample_rate=rate, steps=count, delta=10_000_000)
        charged = book.charge(number, run, on_chain=last, cap=10**12)
        assert charged.epsilon > last
        last = charged.epsilon


def test_the_plan_is_the_least_noise_within_the_target() -> None:
    made = plan_noise(epsilon=8, delta=1e-5, sample_rate=0.05, steps=20, rounds=5)
    assert 7.99 < made.epsilon(5) <= 8
    less = replace(made, noise_multiplier=made.noise_multiplier - 100)
    assert less.epsilon(5) > 8
    assert PrivacyPlan.from_config(made.to_config()) == made


@pytest.mark.parametrize(
    "change", [{"epsilon": 0}, {"delta": 0.5}, {"steps": 0}, {"epsilon": 1e-9}]
)
def test_a_plan_out_of_range_is_refused(change: dict[str, float]) -> None:
    values = {"epsilon": 8, "delta": 1e-5, "sample_rate": 0.05, "steps": 20, "rounds": 5} | change
    with pytest.raises(ConfigError):
        plan_noise(**values)  # type: ignore[arg-type]


def test_the_guard_charges_what_the_configuration_says(tmp_path: Path) -> None:
    made = plan_noise(epsilon=8, delta=1e-5, sample_rate=0.05, steps=20, rounds=2)
    guard = PrivacyAccountGuard(tmp_path / "a.sqlite")
    config = {"privacy": made.to_config()}
    charge = guard.authorise(1, config, spent=0, cap=CAP)
    assert charge.mechanism.epsilon == guard.accountant.spent()
    assert guard.settle(charge, charge.mechanism) == charge.mechanism
    with pytest.raises(PolicyError):
        guard.settle(charge, Mechanism())
    guard.authorise(2, config, spent=charge.mechanism.epsilon, cap=CAP)
    with pytest.raises(BudgetExhausted):
        guard.authorise(3, config, spent=charge.mechanism.epsilon, cap=CAP)


def test_the_guard_refuses_no_privacy_and_another_unit(tmp_path: Path) -> None:
    guard = PrivacyAccountGuard(tmp_path / "a.sqlite", unit=Unit.PATIENT)
    with pytest.raises(PolicyViolation):
        guard.authorise(1, {"privacy": None}, spent=0, cap=CAP)
    image = plan_noise(epsilon=8, delta=1e-5, sample_rate=0.05, steps=2, rounds=2, unit=Unit.IMAGE)
    with pytest.raises(PolicyViolation, match="patient"):
        guard.authorise(1, {"privacy": image.to_config()}, spent=0, cap=CAP)
    assert guard.accountant.spent() == 0
