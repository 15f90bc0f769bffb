"""How fast stored weights of each format become BF16 and come back, beside what the memory allows.

    python -m benchmarks.bench_formats [--threads 2] [--size 4096,14336] [format ...]

The matrix's rows are shared among the threads, in pieces as `convert` works on. `memory` is the time that this machine takes to read as many bytes
and to write as many with `memcpy`, with as many threads; `share` is that time over the kernel's.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from weighbridge.formats import codec, fast
from weighbridge.formats.scheme import Encoding, Role, filled
from weighbridge.formats.schemes import SCHEMES

NAMES = ("fp8-block", "ct-fp8-channel", "ct-mxfp8", "ct-mxfp4", "ct-nvfp4", "modelopt-nvfp4", "mxfp4-blocks", "ct-int4", "ct-int4-zeros", "gptq-int4", "awq-int4",
         "ct-int8", "ct-int3", "bnb-nf4")
ROWS = 256  # of a piece


def encoding_of(name: str) -> Encoding:
    return filled(SCHEMES[name], (128, 128), 128)


def pieces(pool: ThreadPoolExecutor, rows: int, work) -> None:
    list(pool.map(lambda start: work(start, min(start + ROWS, rows)), range(0, rows, ROWS)))


def best(run, repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def memory(pool: ThreadPoolExecutor, threads: int, read: int, written: int) -> float:
    """Seconds to copy min(read, written) bytes and to read, or to set, what is more."""
    src, dst = np.ones(max(read, written), np.uint8), np.ones(max(read, written), np.uint8)
    both, size = min(read, written), max(read, written)

    def part(k: int) -> None:
        low, high = both * k // threads, both * (k + 1) // threads
        ctypes.memmove(dst.ctypes.data + low, src.ctypes.data + low, high - low)
        low, high = both + (size - both) * k // threads, both + (size - both) * (k + 1) // threads
        if written > read:
            ctypes.memset(dst.ctypes.data + low, 1, high - low)
        else:
            src[low:high].view(np.uint64)[: (high - low) // 8].max()

    return best(lambda: list(pool.map(part, range(threads))))


def stored_weight(encoding: Encoding, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    rng, fields = np.random.default_rng(0), {}

    def add(field, size) -> None:
        if not field.weighs or field.role is Role.ORDER:
            return
        high, wide = codec.packed_shape(field.grid(*size), field.packing)
        form = codec.ELEMENTS[field.element]
        values = rng.uniform(0.01, 0.02, field.grid(*size)).astype(np.float32)
        raw = codec.to_dtype(values, field.dtype) if form.bits > 8 else rng.integers(100, 120, high * wide).astype(np.uint8)
        fields[field.suffix] = raw.reshape(-1).view(np.uint8)
        for part in field.inner:
            add(part, field.grid(*size))

    for field in encoding.fields:
        add(field, shape)
    fields[encoding.code.suffix] = rng.integers(0, 127, fields[encoding.code.suffix].size).astype(np.uint8)
    return fields


def measure(name: str, shape: tuple[int, int], threads: int, pool: ThreadPoolExecutor) -> None:
    encoding = encoding_of(name)
    fields = stored_weight(encoding, shape)
    packed, plain = sum(f.size for f in fields.values()), shape[0] * shape[1] * 2
    out = np.ones(shape, np.uint16)
    fast.decode_stored(encoding, shape, fields.get, "BF16", (0, 64))
    decode = best(lambda: pieces(pool, shape[0], lambda a, b: fast.decode_stored(encoding, shape, fields.get, "BF16", (a, b), out[a:b])))
    floor = memory(pool, threads, packed, plain)
    line = f"{name:16} to BF16 {plain / decode / 1e9:6.2f} GB/s of BF16, memory {plain / floor / 1e9:6.2f}, share {floor / decode:5.2f}"
    if SCHEMES[name].rule:
        value = codec.floats8.to_bf16(np.random.default_rng(1).standard_normal(shape).astype(np.float32) * 0.02)
        codes = np.zeros(codec.packed_shape(shape, encoding.code.packing), np.uint8)
        rows = codes.shape[0] / shape[0]

        def back(a: int, b: int) -> None:
            part = codes[int(a * rows) : int(b * rows)]
            fast.quantize_stored(value[a:b], encoding, largest=0.12, out=part)

        back(0, 128)
        encode = best(lambda: pieces(pool, shape[0], back))
        floor = memory(pool, threads, plain, packed)
        line += f" | back {plain / encode / 1e9:6.2f}, memory {plain / floor / 1e9:6.2f}, share {floor / encode:5.2f}"
    print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", default=NAMES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", default="4096,14336")
    options = parser.parse_args()
    rows, columns = (int(part) for part in options.size.split(","))
    with ThreadPoolExecutor(options.threads) as pool:
        for name in options.formats:
            measure(name, (rows, columns), options.threads, pool)


if __name__ == "__main__":
    main()
