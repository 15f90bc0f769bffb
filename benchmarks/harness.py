"""Runs whole processes by turns and prints medians: what both benchmarks share.

A table is taken in one run, each candidate once per round, because the machine's speed drifts between runs. The
CPU time that other processes took meanwhile is printed, because it spoils a table.
"""
from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

WEIGHBRIDGE = (sys.executable, "-m", "weighbridge")
ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """One process from start to end: seconds, bytes of memory (if sampled), and what it printed on stdout."""

    seconds: float
    peak_rss: int
    peak_anonymous: int
    output: str


def run(command: Sequence[object], accept: Sequence[int] = (0,), sample_memory: bool = False) -> Run:
    """Runs a process and waits for it. Memory is sampled only on request, since that costs some time."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=err, cwd=ROOT)
        sampler = _Sampler(process.pid) if sample_memory else None
        process.wait()
        seconds = time.perf_counter() - start
        peaks = sampler.stop() if sampler else {"VmHWM": 0, "RssAnon": 0}
        out.seek(0)
        err.seek(0)
        if process.returncode not in accept:
            text = (out.read() + err.read()).decode(errors="replace")
            raise RuntimeError(f"{' '.join(map(str, command))}: exit {process.returncode}\n{text[-2000:]}")
        return Run(seconds, peaks["VmHWM"], peaks["RssAnon"], out.read().decode())


class _Sampler(threading.Thread):
    """Reads the memory of a process every 5 ms and keeps the largest values, in bytes.

    `ru_maxrss` would not do: a child inherits the peak of the process that starts it.
    """

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.path, self.peaks, self.done = f"/proc/{pid}/status", {"VmHWM": 0, "RssAnon": 0}, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.done.wait(0.005):
            try:
                with open(self.path, encoding="ascii") as status:
                    fields = dict(line.split(":", 1) for line in status)
            except OSError:
                return
            for key in self.peaks.keys() & fields.keys():  # A process that has ended has none of them.
                self.peaks[key] = max(self.peaks[key], 1024 * int(fields[key].split()[0]))

    def stop(self) -> dict[str, int]:
        self.done.set()
        self.join()
        return self.peaks


def by_turns(candidates: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Calls each candidate once per round. A candidate returns its seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds):
        for name, candidate in candidates.items():
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
            seconds[name].append(candidate())
    return seconds


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Median, least and most seconds, and how many runs."""
    return f"{median(values):9.3f} s   ({min(values):.3f} to {max(values):.3f}, n = {len(values)})"


@contextmanager
def foreign_load() -> Iterator[None]:
    """Prints how many CPUs other processes kept busy meanwhile."""

    def busy() -> float:
        with open("/proc/stat", encoding="ascii") as stat:
            fields = [int(field) for field in stat.readline().split()[1:]]
        own = os.times()
        return (sum(fields[:3]) + sum(fields[5:8])) / TICKS - sum(own[:4])

    start, began = busy(), time.perf_counter()
    yield
    elapsed = time.perf_counter() - began
    print(f"other processes took {max(0.0, (busy() - start) / elapsed):.2f} CPU meanwhile\n")


def fresh(folder: Path) -> Path:
    """Removes an output folder and lets the disk come to rest, so that no run pays for the one before."""
    shutil.rmtree(folder, ignore_errors=True)
    os.sync()
    return folder


def peer(script: str) -> Path | None:
    """A public script in the folder that WEIGHBRIDGE_PEERS names, if it is there."""
    folder = os.environ.get("WEIGHBRIDGE_PEERS")
    path = Path(folder).resolve() / script if folder else None
    return path if path and path.exists() else None


def peer_python(*modules: str) -> str | None:
    """The first Python of WEIGHBRIDGE_PEERS_PYTHON (several with `:` between them; this one if it is not set) that has the modules."""
    for python in os.environ.get("WEIGHBRIDGE_PEERS_PYTHON", sys.executable).split(os.pathsep):
        if subprocess.run([python, "-c", f"import {', '.join(modules)}"], capture_output=True, check=False).returncode == 0:
            return python
    return None


def arguments(description: str, rounds: int, only: bool = False) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help=f"(default: {rounds})")
    parser.add_argument("--work", type=Path, help="folder for input and output (default: a temporary one)")
    parser.add_argument("--no-peers", action="store_true", help="leave out the public scripts and libraries")
    if only:
        parser.add_argument("--only", default="", metavar="REGEX", help="only what has this in its name")
    return parser.parse_args()


@contextmanager
def work_folder(given: Path | None) -> Iterator[Path]:
    """The folder of --work, which is kept, or a temporary one, which is not."""
    if given:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as folder:
            yield Path(folder)
