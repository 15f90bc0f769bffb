"""`weighbridge report` over the headers and scales of the full-size replica: 96,103 tensors in 125 shards, all six readers, every tensor's way to neuron.

    python -m benchmarks.bench_report [--rounds N] [--work FOLDER]

Whole processes, the page included; and the same for the demo checkpoint. And `draw`. Limits: 4 s, 500 MB, a page of 2 MB, a document of 1 MB; 1.2 s for `draw`.
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks import harness
from weighbridge.testing.replica import write_replica

READERS = "transformers,vllm,sglang,neuron,tensorrt-llm,llama.cpp"
DEMO = harness.ROOT / "weighbridge" / "demo" / "checkpoint"
SECONDS, MEMORY, PAGE, DOCUMENT, DRAW = 4.0, 500e6, 2e6, 1e6, 1.2


def report(source: Path, out: Path) -> list[object]:
    return [*harness.WEIGHBRIDGE, "report", source, "--runtime", READERS, "--to", "neuron", "-o", out]


def main() -> None:
    options = harness.arguments(__doc__, rounds=5)
    with harness.work_folder(options.work) as work:
        replica = work / "replica"
        if not replica.exists():
            write_replica(replica)
        table = {"M2, 96,103 tensors": report(replica, work / "m2.html"), "demo": report(DEMO, work / "demo.html"),
                 "M2, as JSON": report(replica, work / "m2.json"), "M2, draw as SVG": [*harness.WEIGHBRIDGE, "draw", replica, "-o", work / "m2.svg"]}
        memory = {name: harness.run(command, sample_memory=True).peak_rss for name, command in table.items()}
        turns = {name: lambda command=command: harness.run(command).seconds for name, command in table.items()}
        with harness.foreign_load():
            seconds = harness.by_turns(turns, options.rounds)
            for (name, values), command in zip(seconds.items(), table.values(), strict=True):
                size = Path(str(command[-1])).stat().st_size
                print(f"{name:20} {harness.spread(values)}   {memory[name] / 1e6:6.0f} MB   writes {size / 1e3:6.0f} kB")
        document = json.loads((work / "m2.json").read_text(encoding="utf-8"))
        told = sum(count for group in document["tensors"]["groups"] for count, _ in group["files"])
        page, compact = (work / "m2.html").stat().st_size, len(json.dumps(document, separators=(",", ":")))
        print(f"{told:,} tensors in {len(document['tensors']['groups'])} groups, {len(document['ways']['list'])} ways; the document without spaces has {compact / 1e3:.0f} kB")
        median = harness.median(seconds["M2, 96,103 tensors"])
        good = median < SECONDS and memory["M2, 96,103 tensors"] < MEMORY and page < PAGE and compact < DOCUMENT and told == 96_103
        good &= harness.median(seconds["M2, draw as SVG"]) < DRAW
        print("within its limits" if good else f"OVER A LIMIT: {SECONDS:g} s, {MEMORY / 1e6:.0f} MB, {PAGE / 1e6:g} MB page, {DOCUMENT / 1e6:g} MB document, {DRAW:g} s for draw")
        sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
