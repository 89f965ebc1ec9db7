"""Settings: defaults, files and flags; wrong ones are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.errors import ConfigError
from simulation.settings import Settings, parse_epsilon, read_config, settings_from


def test_a_file_gives_settings(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('hospitals = 5\nlearning_rate = 1\nepsilon = "off"\npartition = "silos"\n')
    found = settings_from(read_config(path))
    assert (found.hospitals, found.learning_rate, found.epsilon) == (5, 1.0, 0.0)
    assert settings_from({**read_config(path), "hospitals": 2}).hospitals == 2


def test_the_demo_and_the_flower_app_are_valid() -> None:
    import tomllib

    root = Path(__file__).parents[2]
    for name, epsilon in (("demo", 0.0), ("nih", 0.0), ("nih-private", 8.0)):
        found = settings_from(read_config(root / "simulation" / f"{name}.toml"))
        assert (found.hospitals, found.epsilon) == (3, epsilon)
    project = tomllib.loads((root / "pyproject.toml").read_text())
    values = dict(project["tool"]["flwr"]["app"]["config"])
    assert values.pop("out")
    assert settings_from(values).rounds >= 1


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"hopsitals": 3}, "unknown setting 'hopsitals'"),
        ({"hospitals": 0}, "hospitals must be between"),
        ({"hospitals": 65}, "hospitals must be between"),
        ({"hospitals": "3"}, "must be of type int"),
        ({"hospitals": True}, "must be of type int"),
        ({"rounds": 0}, "rounds must be between"),
        ({"held_back": 0.9}, "held_back"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"share_cap": 0.0}, "share_cap"),
        ({"unit": "hospital"}, "patient or image"),
        ({"aggregation": "krum"}, "weighted mean"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"epsilon": "none"}, "epsilon"),
        ({"delta": 0.5}, "delta"),
        ({"sample_rate": 2.0}, "sample_rate"),
        ({"partition": "by_moon"}, "unknown partition 'by_moon'"),
        ({"partition": "dirichlet"}, "needs a positive number"),
        ({"partition": "iid:3"}, "takes no number"),
        ({"partition": "feature:2"}, "up to 1"),
        ({"partition": "source", "data": "a,b"}, "say hospitals = 2"),
        ({"uncertain": "perhaps"}, "unknown uncertainty policy 'perhaps'"),
        ({"uncertain": "selftrained"}, "epsilon off"),
        ({"self_epochs": 0}, "self_epochs"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        settings_from(values)


def test_privacy_is_on_unless_switched_off() -> None:
    assert settings_from({}).epsilon == 8.0
    assert settings_from({"epsilon": "off"}).epsilon == 0.0


@pytest.mark.parametrize("text", ["off", "OFF", " off "])
def test_epsilon_off(text: str) -> None:
    assert parse_epsilon(text) == 0.0


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("hospitals = = 3")
    with pytest.raises(ConfigError, match="is not TOML"):
        read_config(path)
    path.write_bytes(b"a" * (1 << 21))
    with pytest.raises(ConfigError, match="is over"):
        read_config(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_config(tmp_path / "absent.toml")


def test_settings_are_plain_values() -> None:
    assert settings_from(Settings().to_dict()) == Settings()
