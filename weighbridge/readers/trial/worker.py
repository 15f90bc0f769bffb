"""One run of a probe in another Python: time, memory and output are bounded, and nothing of it is believed but its answer's form."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROBES = Path(__file__).with_name("probes")
ANSWER_LIMIT = 16_000_000  # bytes of an answer
OUTPUT_LIMIT = 64_000_000  # bytes of any file that the probe writes
LOOKED_EVERY = 0.1  # seconds between two looks at its memory
# Environment that a reader may see. The user's tokens and homes are not among it.
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1",
           "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True)
class Limits:
    """Seconds of a whole run, and bytes of memory of its processes together (files that are mapped are not counted)."""

    seconds: float = 300.0
    memory: int = 8 << 30


@dataclass(frozen=True)
class Ran:
    """What came of it: the answer as it was read (None where there is none), how it ended, and the last line that it printed."""

    answer: dict[str, Any] | None
    ended: str  # empty where it ended by itself with exit 0
    last_line: str
    seconds: float
    memory: int  # the most that was seen, in bytes


def run(python: str, probe: str, request: Mapping[str, Any], work: Path, limits: Limits, environment: Mapping[str, str] | None = None) -> Ran:
    """Run `probes/<probe>` with `request`. `work` is an empty folder of our own: its home, its place for temporary files and for the answer."""
    (work / "home").mkdir()
    answer, output = work / "answer.json", work / "output.txt"
    (work / "request.json").write_text(json.dumps({**request, "answer": str(answer)}), encoding="utf-8")
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    home = str(work / "home")
    began = time.monotonic()
    with open(output, "wb") as sink:
        process = subprocess.Popen(
            [python, str(PROBES / probe), str(work / "request.json")], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=home, start_new_session=True,
            env={**kept, **OFFLINE, **(environment or {}), "HOME": home, "TMPDIR": home, "HF_HOME": home, "XDG_CACHE_HOME": home},
            preexec_fn=_limiter(limits))
        try:
            ended, most = _wait(process, limits, began)
        finally:
            _end(process)
    return Ran(_read(answer), ended, _last_line(output), time.monotonic() - began, most)


def _limiter(limits: Limits) -> Callable[[], None]:
    seconds = int(limits.seconds * 4) + 1
    libc = ctypes.CDLL(None)

    def limit() -> None:
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with us, however we end
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT_LIMIT, OUTPUT_LIMIT))
        # Parameters that nobody writes into are address space and no memory: memory itself is looked at while it runs.
        resource.setrlimit(resource.RLIMIT_DATA, (1 << 42, 1 << 42))

    return limit


def _wait(process: subprocess.Popen[bytes], limits: Limits, began: float) -> tuple[str, int]:
    most = 0
    while True:
        try:
            code = process.wait(LOOKED_EVERY)
            return ("" if code == 0 else f"ended by signal {-code}" if code < 0 else f"exit {code}"), most
        except subprocess.TimeoutExpired:
            pass
        most = max(most, _memory(process.pid))
        if most > limits.memory:
            return f"stopped at {most / 1e9:.1f} GB of memory, the limit is {limits.memory / 1e9:.1f} GB", most
        if time.monotonic() - began > limits.seconds:
            return f"stopped after {limits.seconds:.0f} s", most


def _memory(session: int) -> int:
    """Bytes of anonymous memory of all processes of the session that `Popen` began."""
    total = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getsid(int(entry)) == session:
                    with open(f"/proc/{entry}/status", encoding="utf-8", errors="replace") as status:
                        total += sum(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:"))
            except (OSError, ValueError, IndexError):  # it has just ended
                continue
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the probe and of what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > ANSWER_LIMIT:
            return None
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _last_line(path: Path) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4000))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:500] if lines else ""
