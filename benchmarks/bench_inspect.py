"""Whole processes over the headers of the full-size replica: 96,103 tensors in 125 shards.

    python -m benchmarks.bench_inspect [--rounds N] [--work FOLDER] [--no-peers]

`weighbridge inspect`, `weighbridge check` against all six runtimes, and `weighbridge convert --to neuron --dry-run`, against a bare loop that reads and parses the
same headers, and against the public precision script when WEIGHBRIDGE_PEERS names its folder.
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks import harness
from weighbridge.testing.replica import write_replica

SCRIPT = "check_model_precision.py"
# The script has its path written into it, so its function is called instead.
CALL = "import sys; sys.path.insert(0, sys.argv[1]); import check_model_precision as script; " \
       "script.analyze_checkpoint_dtypes(sys.argv[2])"


def commands(replica: Path, work: Path) -> dict[str, list[object]]:
    return {
        "bare loop": [sys.executable, Path(__file__).with_name("bare_loop.py"), replica],
        "inspect": [*harness.WEIGHBRIDGE, "inspect", replica, "--format", "json"],
        "dry run": [*harness.WEIGHBRIDGE, "convert", replica, work / "none", "--to", "neuron", "--dry-run",
                    "--format", "json"],
        "check, six runtimes": [*harness.WEIGHBRIDGE, "check", replica, "--runtime", "transformers,vllm,sglang,neuron,tensorrt-llm,llama.cpp",
                                "--tp", "8", "--format", "json"],
        "--help": [*harness.WEIGHBRIDGE, "--help"],
    }


def precision_script(replica: Path) -> float | None:
    """Seconds of the public script, run once: it takes more than a minute."""
    script, python = harness.peer(SCRIPT), harness.peer_python("torch", "safetensors")
    if script is None or python is None:
        print(f"{SCRIPT}: left out (WEIGHBRIDGE_PEERS has no such file, or there is no torch)\n")
        return None
    print("once: the precision script", file=sys.stderr)
    result = harness.run([python, "-c", CALL, script.parent, replica])
    if "96103 parameters" not in result.output:
        raise RuntimeError(f"{SCRIPT} did not read 96,103 tensors")
    return result.seconds


def main() -> None:
    options = harness.arguments(__doc__, rounds=7)
    with harness.work_folder(options.work) as work:
        replica = work / "replica"
        if not replica.exists():
            write_replica(replica)
        table = commands(replica, work)
        # A dry run may exit with 1: it found something to report.
        memory = {name: harness.run(command, (0, 1), sample_memory=True).peak_rss for name, command in table.items()}
        turns = {
            name: lambda command=command: harness.run(command, accept=(0, 1)).seconds
            for name, command in table.items()
        }
        with harness.foreign_load():
            seconds = harness.by_turns(turns, options.rounds)
            for name, values in seconds.items():
                print(f"{name:10} {harness.spread(values)}   {memory[name] / 1e6:6.0f} MB")
        inspect = harness.median(seconds["inspect"])
        print(f"inspect / bare loop: {inspect / harness.median(seconds['bare loop']):.1f}")
        script = None if options.no_peers else precision_script(replica)
        if script:
            print(f"precision script: {script:.1f} s, {script / inspect:.0f} times as long as inspect")
        document = json.loads(harness.run(table["inspect"]).output)
        print(f"inspect read {document['tensors']:,} tensors and {document['bytes']:,} bytes")


if __name__ == "__main__":
    main()
