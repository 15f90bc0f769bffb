"""The Pythons of this machine in which a reader may be installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from weighbridge.errors import Usage

SECONDS = 30.0
# Asks for the place and the version of a module without importing it: a reader's import takes seconds and memory.
_LOOK = """
import importlib.metadata as m, importlib.util as u, json, sys
def version(names):
    for name in names:
        try:
            return m.version(name)
        except m.PackageNotFoundError:
            pass
    return ""
found = u.find_spec(sys.argv[1])
sys.stdout.write(json.dumps({"found": found is not None, "version": version(sys.argv[2:])}))
"""


@dataclass(frozen=True)
class Installed:
    """A Python that has the reader, and the version that its package says (empty where it says none)."""

    python: str
    version: str


def find(module: str, packages: tuple[str, ...], named: str = "") -> Installed | None:
    """The first Python with `module`: only the one that the user named, else the running one, an active environment's, those on PATH."""
    for python in [_named(named)] if named else _usual():
        found = _look(python, module, packages)
        if found is not None:
            return found
    return None


def _named(text: str) -> str:
    path = Path(os.path.expanduser(text))
    if path.is_dir():  # an environment's folder
        path = path / "bin" / "python"
    found = shutil.which(str(path))
    if found is None:
        raise Usage(f"{text!r:.200} is no Python that can be run", "--try", "name one as --try vllm@/path/to/venv/bin/python")
    return os.path.abspath(found)


def _usual() -> list[str]:
    active = os.environ.get("VIRTUAL_ENV")
    candidates = [sys.executable, os.path.join(active, "bin", "python") if active else None, shutil.which("python"), shutil.which("python3")]
    return list(dict.fromkeys(os.path.abspath(found) for found in candidates if found and os.path.exists(found)))


def _look(python: str, module: str, packages: tuple[str, ...]) -> Installed | None:
    try:
        done = subprocess.run([python, "-c", _LOOK, module, *packages], capture_output=True, timeout=SECONDS, check=False, cwd="/")
        answer = json.loads(done.stdout[:10_000])
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    if not isinstance(answer, dict) or answer.get("found") is not True:
        return None
    return Installed(python, str(answer.get("version", ""))[:40])
