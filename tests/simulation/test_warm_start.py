"""What may be trained on before any hospital takes part."""

from pathlib import Path

import pytest

from ledger.errors import ConfigError
from simulation.phantoms import write_phantoms
from simulation.settings import Settings
from simulation.warm_start import check_public


@pytest.mark.parametrize("start", ["own", "own/inside", "."])
def test_the_hospitals_own_data_are_not_public(
    tmp_path: Path, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for data in ("own", f"other, {tmp_path / 'own'}"):
        with pytest.raises(ConfigError, match="own data"):
            check_public(Settings(data=data, warm_start=start))
    check_public(Settings(data="own", warm_start="elsewhere"))
    check_public(Settings(data="own", warm_start="phantoms"))
    check_public(Settings(data="phantoms", warm_start="own"))


def test_what_is_scored_on_trains_nothing(tmp_path: Path, data: Path) -> None:
    listed = Settings(data="own", warm_start=str(data), test=str(data))
    check_public(listed)  # its lists keep the two apart
    whole = tmp_path / "whole"
    write_phantoms(whole, 2, 0, size=32, layout="dicom", test_share=0.0)
    for own in ("own", "phantoms"):
        with pytest.raises(ConfigError, match="scored on"):
            check_public(Settings(data=own, warm_start=str(whole), test=str(whole)))
    check_public(Settings(data="own", warm_start=str(whole), test=str(data)))
