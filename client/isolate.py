"""Run one call of a hospital in a process of its own.

A hospital that crashes, is killed or hangs then costs only its own reply: Flower's simulation
engine would otherwise hand the dead worker to the next hospital. The child comes from a fork
server that has already imported the heavy libraries but has started no threads, so a call costs
milliseconds rather than the imports. Payload and reply cross a local pipe as plain bytes.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from ledger.canonical import canonical_json, parse_json
from ledger.errors import HospitalFailed, ThoracleError, by_name

Call = Callable[[bytes], bytes]

_ANSWER, _ERROR = b"\x00", b"\x01"
_PRELOAD = ["client.preload"]
_lock = threading.Lock()


def _child(call: Call, pipe: Connection) -> None:
    answered = threading.Event()
    try:
        payload = pipe.recv_bytes()
        threading.Thread(target=_end_with_parent, args=(pipe, answered), daemon=True).start()
        answer = _ANSWER + call(payload)
    except ThoracleError as error:
        answer = _ERROR + canonical_json({"name": error.name, "message": str(error)})
    except Exception as error:  # noqa: BLE001 - whatever it is, only its class may leave
        answer = _ERROR + canonical_json(
            {"name": "HospitalFailed", "message": type(error).__name__}
        )
    answered.set()
    pipe.send_bytes(answer)


def _end_with_parent(pipe: Connection, answered: threading.Event) -> None:
    """End this process once its parent is gone, and with it whoever wanted the answer.

    Flower's engine kills its workers when a run is interrupted; a hospital that trained on for
    nobody would hold its folder against the resumed run. A kill is safe at any moment: that is
    what a hospital's journal is for.
    """
    pipe.poll(None)  # the parent sends one message only, so what comes now is the end
    if not answered.is_set():
        os._exit(1)


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep a starting child from running the parent's main script over again.

    Python's own children do so, to find what their parent defined there. Ours need nothing of it,
    and the script of Flower's worker imports all of Ray: most of a second for every call.
    """
    main = sys.modules["__main__"].__dict__
    file = main.pop("__file__", None)
    try:
        yield
    finally:
        if file is not None:
            main["__file__"] = file


def run_isolated(call: Call, payload: bytes, *, timeout: float, who: str) -> bytes:
    """Run ``call(payload)`` in a child process and return its answer.

    Args:
        call: a module-level function from bytes to bytes.
        payload: what it gets.
        timeout: seconds until the child is killed.
        who: names the hospital in errors.

    Raises:
        ThoracleError: the child raised it (same class, same sentence).
        HospitalFailed: the child raised something else, died, or did not answer in time.
    """
    context = multiprocessing.get_context("forkserver")
    with _lock:  # two messages of one worker may arrive at once; the fork server starts once
        context.set_forkserver_preload(_PRELOAD)
        here, there = context.Pipe()
        child = context.Process(target=_child, args=(call, there), daemon=True)
        with _without_main():
            child.start()
        there.close()
    try:
        return _answer(here, payload, timeout, who)
    finally:
        here.close()
        if child.is_alive():
            child.join(1.0)
        if child.is_alive():
            child.kill()
        child.join()


def _answer(pipe: Connection, payload: bytes, timeout: float, who: str) -> bytes:
    try:
        pipe.send_bytes(payload)
        if not pipe.poll(timeout):
            raise HospitalFailed(f"{who} did not answer within {timeout:g} s")
        answer = pipe.recv_bytes()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise HospitalFailed(f"{who} died before it answered") from None
    if answer[:1] == _ANSWER:
        return answer[1:]
    told = parse_json(answer[1:], 1 << 16)
    if not isinstance(told, dict):
        raise HospitalFailed(f"{who} answered something unreadable")
    kind = by_name(str(told.get("name"))) or HospitalFailed
    message = str(told.get("message"))
    raise kind(f"{who} failed with {message}" if kind is HospitalFailed else message)
