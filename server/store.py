"""The run folder: where everything a round leaves behind lies, content-addressed.

    runs/NAME/
      run.json                       configuration, seeds, versions, addresses, anchors
      coordinator.sqlite             the coordinator's journal (server.journal)
      models/<sha256>.safetensors    every base and proposed model
      sums/<sha256>.safetensors      every S that was proposed
      evidence/<sha256>              sealed updates as they arrived, refused ones too
      evidence/decisions/<n>.json    every admission decision of round n, with its measurements
      configs/<digest>.json          round configurations, by the digest on the chain
      metrics.csv                    one line a round

Objects are written once, atomically, under the SHA-256 of their bytes (configurations under their
tagged digest), so a changed byte is seen on reading and two runs of one round write one file.
One process works on a run at a time: ``RunBusy`` otherwise.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import TracebackType

from ledger.canonical import canonical_json, config_digest, parse_json
from ledger.errors import EvidenceMismatch, EvidenceMissing
from ledger.files import ObjectStore, atomic_write, read_bounded, storage_error, sweep
from ledger.lock import RunLock
from server.journal import Journal

LOCK = "coordinator"
PARTS = ("models", "sums", "evidence", "evidence/decisions", "configs")
MAX_CONFIG_BYTES = 2**20
MAX_DECISIONS_BYTES = 4 * 2**20
MAX_METRICS_BYTES = 64 * 2**20


class RunStore:
    """A run folder opened for work by one coordinator.

    Args:
        folder: the run folder; its sub-folders are created when absent.

    Raises:
        RunBusy: another process is working on this run.
        JournalCorrupt: the journal cannot be read.
        StorageFull, StorageReadOnly: the folder cannot be worked on.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(folder, error) from None
        self.folder = folder
        self._lock = RunLock(folder, LOCK, f"the run {folder.name}")
        self._lock.acquire()
        self.models = ObjectStore(folder / "models", ".safetensors")
        self.sums = ObjectStore(folder / "sums", ".safetensors")
        self.evidence = ObjectStore(folder / "evidence")
        try:
            for part in PARTS:
                (folder / part).mkdir(parents=True, exist_ok=True)
                sweep(folder / part)
            sweep(folder)
            self.journal = Journal(folder / "coordinator.sqlite")
        except OSError as error:
            self._lock.release()
            raise storage_error(folder, error) from None
        except BaseException:
            self._lock.release()
            raise

    def put_config(self, config: dict[str, object]) -> bytes:
        """Store a round configuration and return its digest."""
        digest = config_digest(config)
        atomic_write(self.folder / "configs" / f"{digest.hex()}.json", canonical_json(config))
        return digest

    def get_config(self, digest: bytes) -> bytes:
        """Return the canonical bytes of a round configuration.

        Raises:
            EvidenceMissing: there is no such file.
            EvidenceMismatch: the file is not what its name says.
        """
        path = self.folder / "configs" / f"{digest.hex()}.json"
        if not path.is_file():
            raise EvidenceMissing(f"the configuration {digest.hex()} is not in the run folder")
        data = read_bounded(path, MAX_CONFIG_BYTES)
        config = parse_json(data, MAX_CONFIG_BYTES)
        if not isinstance(config, dict) or config_digest(config) != digest:
            raise EvidenceMismatch(f"the configuration {path.name} is not what its name says")
        return data

    def decisions_path(self, number: int) -> Path:
        """Return where the decisions of a round lie."""
        return self.folder / "evidence" / "decisions" / f"{number}.json"

    def put_decisions(self, number: int, decisions: dict[str, object]) -> None:
        """Write the decisions of a round, replacing an earlier draft of the same round."""
        atomic_write(self.decisions_path(number), canonical_json(decisions))

    def get_decisions(self, number: int) -> dict[str, object] | None:
        """Return the decisions of a round, or None when it has none.

        Raises:
            EvidenceMismatch: the file is not a decision record.
        """
        path = self.decisions_path(number)
        if not path.is_file():
            return None
        value = parse_json(read_bounded(path, MAX_DECISIONS_BYTES), MAX_DECISIONS_BYTES)
        if not isinstance(value, dict):
            raise EvidenceMismatch(f"the decisions of round {number} are not a JSON object")
        return value

    def write_metrics(self, row: dict[str, object]) -> None:
        """Add a round's line to ``metrics.csv``; a line of the same round is replaced.

        The whole file is rewritten in one step, so that a crash never leaves half a line; columns
        that a later round brings are added at the end.
        """
        path = self.folder / "metrics.csv"
        rows = self.read_metrics()
        plain = {name: "" if value is None else str(value) for name, value in row.items()}
        rows = [old for old in rows if old["round"] != plain["round"]] + [plain]
        columns = list(dict.fromkeys(name for line in rows for name in line))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic_write(path, text.getvalue().encode())

    def read_metrics(self) -> list[dict[str, str]]:
        """Return the lines of ``metrics.csv`` so far, as text by column."""
        path = self.folder / "metrics.csv"
        if not path.is_file():
            return []
        text = read_bounded(path, MAX_METRICS_BYTES).decode()
        return list(csv.DictReader(io.StringIO(text, newline="")))

    def close(self) -> None:
        """Close the journal and let another process work on the run."""
        self.journal.close()
        self._lock.release()

    def __enter__(self) -> RunStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
