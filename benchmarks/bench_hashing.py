"""What hashing costs a conversion: `convert` of a true-shape piece of MiniMax-M2 with hashes, and with an empty function in the place of XXH3.

    python -m benchmarks.bench_hashing [--rounds N] [--work FOLDER]

2 layers, 32 experts, about 1.1 GB, whole processes by turns, as in bench_convert. CPU is that of the process. Then the speed of `verify D`.
"""
from __future__ import annotations

import sys

from benchmarks import harness
from benchmarks.bench_convert import PIECE
from weighbridge.testing.replica import write_replica

RUN = """
import sys, time
if sys.argv[4] == "without":
    import xxhash
    class Nothing:
        def update(self, data): pass
        def digest(self): return bytes(16)
    xxhash.xxh3_128, xxhash.xxh3_128_digest = Nothing, lambda data: bytes(16)
    from weighbridge.convert import origin
    def finish(self, files=None, progress=None):
        for weights in self.weights.values():
            weights.digests = [bytes(16)] * len(weights.digests)
    origin.Origin.finish = finish
from weighbridge.cli import main
assert main(["convert", sys.argv[1], sys.argv[2], "--to", sys.argv[3], "-o", "/dev/null"]) == 0
print(time.process_time())
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
                done = harness.run([sys.executable, "-c", RUN, source, out, layout, way])
                cpu[way].append(float(done.output))
                return done.seconds

            turn("with")
            cpu["with"].clear()
            with harness.foreign_load():
                seconds: dict[str, list[float]] = {"without": [], "with": []}
                for number in range(options.rounds):  # each side is the first one in half of the rounds
                    order = sorted(seconds, reverse=bool(number % 2))
                    for way, taken in harness.by_turns({way: lambda way=way: turn(way) for way in order}, 1).items():
                        seconds[way] += taken
            print(f"to {layout}")
            for way, values in seconds.items():
                print(f"  {way + ' hashes':16} {harness.spread(values)}   CPU {harness.median(cpu[way]):.3f} s")
            ratios = [a / b for a, b in zip(seconds["with"], seconds["without"], strict=True)]
            print(f"  cost of hashing: {100 * (harness.median(ratios) - 1):.1f} % of the time (median of pairs), "
                  f"{100 * (min(seconds['with']) / min(seconds['without']) - 1):.1f} % by the fastest runs, "
                  f"{100 * (min(cpu['with']) / min(cpu['without']) - 1):.1f} % of the least CPU")
        turn("with")
        size = sum(path.stat().st_size for path in out.iterdir())
        done = harness.run([*harness.WEIGHBRIDGE, "verify", out])
        print(f"verify D: {size / done.seconds / 1e9:.2f} GB/s with the start of the process")


if __name__ == "__main__":
    main()
