"""One honest federation, played once for every test that audits it (each edits its own copy)."""

from __future__ import annotations

import pytest

from tests.ledger.audited_run import Federation


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Two rounds, the second with a refusal; its run folder is written."""
    federation = Federation(tmp_path_factory.mktemp("honest") / "run")
    federation.play()
    federation.play()
    federation.write_run()
    return federation
