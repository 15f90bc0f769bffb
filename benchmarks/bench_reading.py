"""What verbs that need headers and scales read of the full-size replica of MiniMax-M2, with none of it in memory.

    python -m benchmarks.bench_reading [--rounds N] [--work FOLDER]

For each verb: seconds, bytes that came from the disk (the kernel's account of the process), bytes of the replica that are in
memory afterwards, and both as multiples of the headers, the index and the scales. The replica's weights are holes: they cost no
disk, but they do fill memory, so the second figure is the one that tells of reading too much.
"""
from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import harness
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.testing.pagecache import forget, resident
from weighbridge.testing.replica import write_replica


def commands(replica: Path, work: Path) -> dict[str, list[object]]:
    return {
        "inspect": ["inspect", replica, "--format", "json"],
        "convert --to neuron --dry-run": ["convert", replica, work / "none", "--to", "neuron", "--dry-run", "--format", "json"],
        "convert --to hf-bf16 --dry-run": ["convert", replica, work / "none", "--to", "hf-bf16", "--dry-run", "--format", "json"],
        "check --runtime vllm": ["check", replica, "--runtime", "vllm", "--format", "json"],
    }


def needed(replica: Path) -> tuple[int, int]:
    """Bytes of headers and the index, and of the scales."""
    checkpoint = open_checkpoint(replica)
    heads = sum(min(t.start for t in header.tensors.values()) for header in checkpoint.headers.values())
    heads += sum(size for file, size in checkpoint.files.items() if file.endswith(".json"))
    return heads, sum(t.nbytes for name, t in checkpoint.tensors.items() if name.endswith("weight_scale_inv"))


def cold(command: list[object], replica: Path) -> tuple[float, int, int]:
    """Seconds, bytes from the disk, and bytes of the replica in memory at the end."""
    forget(replica)
    start = time.perf_counter()
    process = subprocess.Popen([*harness.WEIGHBRIDGE, *map(str, command)], cwd=harness.ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise RuntimeError(f"{command}: exit {os.waitstatus_to_exitcode(status)}")
    process.returncode = 0
    return seconds, usage.ru_inblock * 512, resident(replica)


def main() -> None:
    options = harness.arguments(__doc__, rounds=3)
    with harness.work_folder(options.work) as work:
        replica = work / "replica"
        if not replica.exists():
            write_replica(replica)
        heads, scales = needed(replica)
        print(f"headers and index {heads / 1e6:.1f} MB, scales {scales / 1e6:.1f} MB")
        cold(commands(replica, work)["convert --to neuron --dry-run"], replica)  # fills the cache of compiled code
        with harness.foreign_load():
            for name, command in commands(replica, work).items():
                due = heads if name == "inspect" else heads + scales
                print(f"{name}: {due / 1e6:.1f} MB", file=sys.stderr)
                rows = [cold(command, replica) for _ in range(options.rounds)]
                seconds, read, kept = (harness.median(column) for column in zip(*rows, strict=True))
                print(f"{name:32} {seconds:6.2f} s   from disk {read / 1e6:7.1f} MB ({read / due:.2f}x)   "
                      f"in memory {kept / 1e6:7.1f} MB ({kept / due:.2f}x)")


if __name__ == "__main__":
    main()
