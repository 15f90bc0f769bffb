"""How fast stored weights of each format become BF16 and come back, beside what the memory allows.

    python -m benchmarks.bench_formats [--threads 2] [--size 4096,14336] [format ...]

The matrix's rows are shared among the threads, in pieces as `convert` works on. `cpu` is what the cores spend on a value. `share` compares it with
what they spend on as many bytes: copied with memcpy, and set or read where one side has more, with as many threads in the same run: 0.5 is half of
what the memory allows. Both are CPU time, which says something on a busy machine, too; GB/s is by the clock.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from weighbridge.formats import codec, fast
from weighbridge.formats.scheme import Encoding, Field, Role, filled
from weighbridge.formats.schemes import SCHEMES

NAMES = ("fp8-block", "ct-fp8-channel", "ct-mxfp8", "ct-mxfp4", "ct-nvfp4", "modelopt-nvfp4", "mxfp4-blocks", "ct-int4", "ct-int4-zeros", "gptq-int4",
         "awq-int4", "ct-int8", "ct-int3", "bnb-nf4")
ROWS = 256  # of a piece


class Measured(NamedTuple):
    seconds: float
    cpu: float


def best(run: Callable[[], object], repeats: int = 5) -> Measured:
    """The shortest of some runs: seconds, and seconds of all cores."""
    found = Measured(float("inf"), float("inf"))
    for _ in range(repeats):
        start, cpu = time.perf_counter(), time.process_time()
        run()
        found = Measured(min(found.seconds, time.perf_counter() - start), min(found.cpu, time.process_time() - cpu))
    return found


class Bench:
    def __init__(self, rows: int, columns: int, threads: int) -> None:
        self.shape, self.threads, self.pool = (rows, columns), threads, ThreadPoolExecutor(threads)

    def pieces(self, work: Callable[[int, int], object]) -> None:
        list(self.pool.map(lambda start: work(start, min(start + ROWS, self.shape[0])), range(0, self.shape[0], ROWS)))

    def memory(self, read: int, written: int) -> float:
        """Seconds of CPU time to read and write as many bytes."""
        size, both = max(read, written) // 8 * 8, min(read, written) // 8 * 8
        src, dst = np.ones(size // 8, np.uint64), np.ones(size // 8, np.uint64)

        def part(k: int) -> None:
            low, high = (both // 8 * i // self.threads for i in (k, k + 1))
            ctypes.memmove(dst.ctypes.data + 8 * low, src.ctypes.data + 8 * low, 8 * (high - low))
            low, high = (both // 8 + (size - both) // 8 * i // self.threads for i in (k, k + 1))
            if written > read:
                ctypes.memset(dst.ctypes.data + 8 * low, 1, 8 * (high - low))
            elif high > low:
                src[low:high].max()

        return best(lambda: list(self.pool.map(part, range(self.threads)))).cpu

    def line(self, work: Callable[[int, int], object], read: int, written: int) -> str:
        work(0, 128)
        found, floor = best(lambda: self.pieces(work)), self.memory(read, written)
        values = self.shape[0] * self.shape[1]
        return f"{2 * values / found.seconds / 1e9:6.2f} GB/s  cpu {found.cpu / values * 1e9:5.2f} ns  share {floor / found.cpu:5.2f}"

    def measure(self, name: str) -> str:
        encoding = filled(SCHEMES[name], (128, 128), 128)
        fields = stored_weight(encoding, self.shape)
        packed, plain = sum(f.size for f in fields.values()), self.shape[0] * self.shape[1] * 2
        out = np.ones(self.shape, np.uint16)
        text = self.line(lambda a, b: fast.decode_stored(encoding, self.shape, fields.get, "BF16", (a, b), out[a:b]), packed, plain)
        if not SCHEMES[name].rule:
            return text
        value = codec.floats8.to_bf16(np.random.default_rng(1).standard_normal(self.shape).astype(np.float32) * 0.02)
        codes = np.zeros(codec.packed_shape(self.shape, encoding.code.packing), np.uint8)
        each = codes.shape[0] / self.shape[0]
        largest = 0.12 if encoding.strategy == "tensor" or "nvfp4" in name else None

        def back(a: int, b: int) -> None:
            fast.quantize_stored(value[a:b], encoding, largest=largest, out=codes[int(a * each) : int(b * each)])

        return f"{text}   {self.line(back, plain, packed)}"


def stored_weight(encoding: Encoding, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    rng, fields = np.random.default_rng(0), {}

    def add(field: Field, size: tuple[int, int]) -> None:
        if not field.weighs or field.role is Role.ORDER:
            return
        high, wide = codec.packed_shape(field.grid(*size), field.packing)
        values = rng.uniform(0.01, 0.02, field.grid(*size)).astype(np.float32)
        raw = codec.to_dtype(values, field.dtype) if codec.ELEMENTS[field.element].bits > 8 else rng.integers(100, 120, high * wide).astype(np.uint8)
        fields[field.suffix] = raw.reshape(-1).view(np.uint8)
        for part in field.inner:
            add(part, field.grid(*size))

    for field in encoding.fields:
        add(field, shape)
    fields[encoding.code.suffix] = rng.integers(0, 127, fields[encoding.code.suffix].size).astype(np.uint8)
    return fields


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", default=NAMES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", default="4096,14336")
    options = parser.parse_args()
    rows, columns = (int(part) for part in options.size.split(","))
    bench = Bench(rows, columns, options.threads)
    print(f"[{rows}, {columns}], {options.threads} threads; GB/s of BF16\n{'':16} to BF16{'':35} from BF16")
    for name in options.formats:
        print(f"{name:16} {bench.measure(name)}", flush=True)


if __name__ == "__main__":
    main()
