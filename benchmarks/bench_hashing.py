"""What hashing costs a conversion: `convert` of a true-shape piece of MiniMax-M2 with hashes, and with an empty function in the place of XXH3.

    python -m benchmarks.bench_hashing [--rounds N] [--work FOLDER]

2 layers, 32 experts, about 1.1 GB, as in bench_convert. Both sides run in one process each, by turns, with the kernels warm. Then the speed of `verify D`.
"""
from __future__ import annotations

import sys

from benchmarks import harness
from benchmarks.bench_convert import PIECE
from weighbridge.testing.replica import write_replica

RUN = """
import sys, time
import weighbridge.api as wb
if sys.argv[4] == "without":
    import xxhash
    class Nothing:
        def update(self, data): pass
        def digest(self): return bytes(16)
    xxhash.xxh3_128, xxhash.xxh3_128_digest = Nothing, lambda data: bytes(16)
    from weighbridge.convert import origin
    origin.Origin.finish = lambda self: [w.digests.__setitem__(slice(None), [bytes(16)] * len(w.digests)) for w in self.weights.values()]
model = wb.open(sys.argv[1])
started, cpu = time.perf_counter(), time.process_time()
model.convert(sys.argv[2], sys.argv[3])
print(time.perf_counter() - started, time.process_time() - cpu)
"""


def main() -> None:
    options = harness.arguments(__doc__, rounds=7)
    with harness.work_folder(options.work) as work:
        source, out = work / "piece-2", work / "out"
        if not source.exists():
            write_replica(source, layers=2, **PIECE)
        for layout in ("neuron", "hf-bf16"):
            cpu: dict[str, list[float]] = {"with": [], "without": []}

            def turn(way: str, layout: str = layout, cpu: dict[str, list[float]] = cpu) -> float:
                harness.fresh(out)
                seconds, busy = map(float, harness.run([sys.executable, "-c", RUN, source, out, layout, way]).output.split())
                cpu[way].append(busy)
                return seconds

            turn("with")
            cpu["with"].clear()
            with harness.foreign_load():
                seconds = harness.by_turns({way: lambda way=way: turn(way) for way in ("without", "with")}, options.rounds)
            print(f"to {layout}")
            for way, values in seconds.items():
                print(f"  {way + ' hashes':16} {harness.spread(values)}   CPU {harness.median(cpu[way]):.3f} s")
            ratios = [a / b for a, b in zip(seconds["with"], seconds["without"], strict=True)]
            print(f"  cost of hashing: {100 * (harness.median(ratios) - 1):.1f} % of the time (median of pairs), "
                  f"{100 * (min(seconds['with']) / min(seconds['without']) - 1):.1f} % by the fastest runs, "
                  f"{100 * (harness.median(cpu['with']) / harness.median(cpu['without']) - 1):.1f} % of the CPU")
        turn("with")
        size = sum(path.stat().st_size for path in out.iterdir())
        done = harness.run([*harness.WEIGHBRIDGE, "verify", out])
        print(f"verify D: {size / done.seconds / 1e9:.2f} GB/s with the start of the process")


if __name__ == "__main__":
    main()
