"""The anvil process: finding the program, starting it, knowing that it answers, ending it."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import ConfigError
from ledger.rpc_filter import NodeDown, Upstream

# `flwr run` starts the code from a copy without node_modules; the project that the environment
# (.venv) lies in still has them.
_PROJECTS = (Path(__file__).resolve().parent.parent, Path(sys.prefix).parent)
_ARCHES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_PR_SET_PDEATHSIG = 1

HARDFORK = "prague"
"""Newest fork that both anvil and the in-process EVM know, so that gas can be compared too."""

STATE_INTERVAL = 30
"""Seconds between anvil's dumps. The journal makes a kill harmless; a dump writes all blocks anew
(6 kB each), so each second would cost more than the chain itself."""


def find_anvil() -> Path:
    """Return the anvil binary: ``$THORACLE_ANVIL``, the npm package, or one on the ``PATH``.

    Raises:
        ConfigError: there is none, or ``$THORACLE_ANVIL`` names no program.
    """
    named = os.environ.get("THORACLE_ANVIL")
    if named:
        if not os.access(named, os.X_OK):
            raise ConfigError(f"THORACLE_ANVIL names {named}, which is not a program")
        return Path(named)
    system = {"Windows": "win32"}.get(platform.system(), platform.system().lower())
    machine = _ARCHES.get(platform.machine().lower(), platform.machine().lower())
    suffix = ".exe" if system == "win32" else ""
    for project in _PROJECTS:
        modules = project / "contracts" / "node_modules" / "@foundry-rs"
        packaged = modules / f"anvil-{system}-{machine}" / "bin" / f"anvil{suffix}"
        if os.access(packaged, os.X_OK):
            return packaged
    found = shutil.which("anvil")
    if found is None:
        raise ConfigError(
            "the chain node anvil is not installed; run `npm ci` in contracts/, "
            "or name it in THORACLE_ANVIL"
        )
    return Path(found)


def spawn(plan: AnvilPlan, port: int) -> subprocess.Popen[bytes]:
    """Start anvil on loopback; it does not outlive this process.

    Raises:
        ConfigError: the program cannot be run.
    """
    command = [
        str(plan.binary),
        *("--host", "127.0.0.1", "--port", str(port), "--no-cors", "--quiet"),
        *(
            "--chain-id",
            str(plan.chain_id),
            "--timestamp",
            str(plan.genesis_time),
            "--hardfork",
            HARDFORK,
        ),
        *("--accounts", "0", "--disable-default-create2-deployer"),
        *("--gas-price", "0", "--block-base-fee-per-gas", "0", "--disable-min-priority-fee"),
        *("--state", str(plan.state.resolve()), "--state-interval", str(STATE_INTERVAL)),
        *("--cache-path", str((plan.folder / "cache").resolve())),
    ]
    # Only what it needs: the parent's environment may hold a keystore's password.
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
    with (plan.folder / "anvil.log").open("ab") as log:
        try:
            return subprocess.Popen(  # noqa: S603 - a program by its path, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=plan.folder,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches us first, and we stop it in order
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one system call, no Python lock
            )
        except OSError as error:
            raise ConfigError(f"cannot run {plan.binary}: {error.strerror or error}") from None


def _die_with_parent() -> Callable[[], None] | None:
    """Return what the child calls before it becomes anvil, where the system can do it.

    Linux ends the child when the *thread* that started it ends, so only the main thread, which
    ends last, asks for it. Elsewhere an ``atexit`` hook does what can be done.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    library = ctypes.CDLL(None)
    end = int(signal.SIGTERM)  # anvil dumps its state on the way out
    return lambda: library.prctl(_PR_SET_PDEATHSIG, end)


@dataclass(frozen=True, kw_only=True)
class AnvilPlan:
    """How one anvil process is started.

    Attributes:
        binary: the program.
        folder: its working folder and log.
        state: its dump, loaded where it exists.
        chain_id: EIP-155 number.
        genesis_time: of block 0, in Unix seconds: fixed, or a lost dump would change its hash.
        startup: seconds it may take to answer.
    """

    binary: Path
    folder: Path
    state: Path
    chain_id: int
    genesis_time: int
    startup: float


def run_anvil(plan: AnvilPlan) -> tuple[subprocess.Popen[bytes], int] | None:
    """Start anvil on a free loopback port; return it and the port once it answers.

    None where it ends by itself (a damaged dump) or does not answer in time.
    """
    for _ in range(3):  # another program may take the port between choosing and using it
        port = _free_port()
        process = spawn(plan, port)
        if _answers(plan, process, port):
            return process, port
        end(process)
        if not _taken(port):
            return None
    return None


def _answers(plan: AnvilPlan, process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + plan.startup
    upstream = Upstream(port, timeout=2.0)
    try:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                chain_id = int(upstream.call("eth_chainId"), 16)
            except (NodeDown, ValueError, TypeError):
                time.sleep(0.02)
            else:
                return chain_id == plan.chain_id and process.poll() is None
        return False
    finally:
        upstream.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and make it end."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
