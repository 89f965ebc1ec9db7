"""No file is written, and no transaction sent, past the primitives that announce their steps.

Read from the source: in ``client``, ``server`` and ``ledger`` every call that changes a disk or a
chain stands inside ``with step(...)``, or in the list below with the reason why a stop there loses
nothing. So whoever writes a new file by hand must either announce it, and the fault injector then
stops there, or argue here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("client", "server", "ledger")

PATH_WRITES = frozenset({"write_bytes", "write_text", "unlink", "touch", "rename", "rmdir",
                         "hardlink_to", "symlink_to", "truncate"})  # fmt: skip
"""Methods of a path that change the disk (``replace`` and ``open`` are looked at more closely)."""
MODULE_WRITES = frozenset({
    "os.write", "os.replace", "os.rename", "os.remove", "os.unlink", "os.truncate", "os.rmdir",
    "os.ftruncate", "os.fdopen", "shutil.rmtree", "shutil.copy", "shutil.copy2", "shutil.copyfile",
    "shutil.copytree", "shutil.move", "tempfile.mkstemp", "np.savez", "np.save", "numpy.save",
    "torch.save", "sqlite3.connect",
})  # fmt: skip
SENDS = frozenset({"send_raw_transaction"})
_FLAGS = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC")
SQL = ("INSERT", "UPDATE", "DELETE")

EXEMPT: dict[str, str] = {
    "client/shard.py:write_shard": "into the stream of atomic_stream, which announces it",
    "client/accountant.py:Accountant.__init__": "the empty table, made again if it is missing",
    "client/accountant.py:Accountant._open": "opens; the insertion is a step",
    "client/hospital_log.py:note": "the hospital's own log: nothing is ever read back from it",
    "server/journal.py:Journal.__init__": "opens; the insertion is a step",
    "ledger/doctor.py:examine_database": "opens to read",
    "ledger/lock.py:RunLock.acquire": "a note for people; the lock is the kernel's",
    "ledger/private.py:read_private": "opens to read",
    "ledger/txlog.py:TransactionLog.__init__": "opens, and cuts a torn line, again if need be",
    "ledger/txlog.py:TransactionLog._append": "takes back what a full disk did not take whole",
    "ledger/files.py:atomic_stream": "removes its own temporary file after an error",
    "ledger/txlog.py:ChainNode.send": "the caller, TransactionLog._resend, announces it",
    "ledger/chain_sends.py:TransactionSender._broadcast.attempt": "its callers announce it",
    "ledger/node_process.py:spawn": "anvil's own log",
    "ledger/archive.py:write_archive": "a copy for an auditor, made again from the run",
    "ledger/chain_commands.py:open_run": "a scratch copy to look at, removed afterwards",
}
"""Where a call may stand outside a step, and why."""
OUTSIDE = ("client/data/",)
"""What prepares data before any federation exists: made again from the source if it is stopped."""


def writes(tree: ast.AST) -> Iterator[tuple[str, str, bool]]:
    """Yield each call that may write: its function, what it calls, whether inside a step."""
    yield from _walk(tree, "", False)


def _walk(node: ast.AST, where: str, inside: bool) -> Iterator[tuple[str, str, bool]]:
    for child in ast.iter_child_nodes(node):
        name, covered = where, inside
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            name = f"{where}.{child.name}" if where else child.name
            covered = False
        elif isinstance(child, ast.With) and any(_is_step(item) for item in child.items):
            covered = True
        elif isinstance(child, ast.Call) and (called := _writing(child)):
            yield where, called, inside
        yield from _walk(child, name, covered)


def _is_step(item: ast.withitem) -> bool:
    call = item.context_expr
    return isinstance(call, ast.Call) and ast.unparse(call.func) in {"step", "durable"}


def _writing(call: ast.Call) -> str:
    """Return what a call does to the disk or the chain, or nothing."""
    name = ast.unparse(call.func)
    last = name.rsplit(".", 1)[-1]
    if name in MODULE_WRITES or last in SENDS:
        return name
    if not isinstance(call.func, ast.Attribute):
        return name if name == "open" and _opens_to_write(call, 1) else ""
    if last in PATH_WRITES and not name.startswith("table."):
        return name
    if last == "replace" and len(call.args) == 1 and not call.keywords:
        return name  # a path's; text's has two arguments, a dataclass's has keywords
    if name == "os.open":
        return name if any(flag in ast.unparse(call) for flag in _FLAGS) else ""
    if last == "open" and _opens_to_write(call, 0):
        return name
    if last in {"execute", "executemany", "executescript"} and call.args:
        text = ast.unparse(call.args[0]).upper()
        return name if any(word in text for word in SQL) else ""
    return ""


def _opens_to_write(call: ast.Call, place: int) -> bool:
    modes = [*call.args[place : place + 1], *(k.value for k in call.keywords if k.arg == "mode")]
    return any(
        isinstance(mode, ast.Constant)
        and isinstance(mode.value, str)
        and set(mode.value) & set("wax+")
        for mode in modes
    )


def uncovered() -> dict[str, list[str]]:
    """Return every writing call outside a step, by function."""
    found: dict[str, list[str]] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith(OUTSIDE):
                continue
            for where, called, inside in writes(ast.parse(path.read_text())):
                if not inside:
                    found.setdefault(f"{name}:{where}", []).append(called)
    return found


def test_every_write_is_a_step_or_argued() -> None:
    strange = {where: calls for where, calls in uncovered().items() if where not in EXEMPT}
    assert not strange, f"written past ledger.steps, where no fault can be injected: {strange}"


def test_no_exemption_is_left_over() -> None:
    assert set(EXEMPT) <= set(uncovered()), sorted(set(EXEMPT) - set(uncovered()))


@pytest.mark.parametrize(
    "source",
    [
        "def f(path):\n    path.write_bytes(b'')",
        "def f(path):\n    path.open('wb').write(b'')",
        "def f(path):\n    with path.open(mode='a') as stream: stream.write('')",
        "def f(a, b):\n    a.replace(b)",
        "def f(db):\n    db.execute('INSERT INTO x VALUES (1)')",
        "def f(eth, raw):\n    eth.send_raw_transaction(raw)",
        "def f(path):\n    with step('write', path):\n        def g():\n            path.unlink()",
    ],
)
def test_a_hidden_write_is_seen(source: str) -> None:
    assert [inside for _, _, inside in writes(ast.parse(source))] == [False]


@pytest.mark.parametrize(
    "source",
    [
        "def f(path):\n    with step('remove', path):\n        path.unlink()",
        "def f(path):\n    return path.open('rb').read()",
        "def f(text):\n    return text.replace('a', 'b')",
    ],
)
def test_a_step_and_a_read_are_not(source: str) -> None:
    assert all(inside for _, _, inside in writes(ast.parse(source)))
