"""The kernels beside memcpy: gigabytes read plus written per second, and the share of memcpy's speed.

Every candidate and memcpy run by turns in one process, with one thread and with two that halve the rows.
memcpy is that of libc, on two buffers of bfloat16 size. The matrix has 151 M weights, so no cache helps; the
rows named "reused" decode matrices of 1536 x 3072 into one buffer per thread, as a conversion does.
WEIGHBRIDGE_KERNELS=portable measures the other family.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from benchmarks.harness import by_turns, foreign_load, median
from weighbridge.encoding import codec, kernels

N = K = 12288
BLOCK = 128
EXPERT = (1536, 3072)
THREADS = (1, 2)


class Case(NamedTuple):
    """A kernel on some rows of the matrix, the bytes it moves per weight, and the shares it promises."""

    name: str
    run: Callable[[int, int], object]  # (first row, rows)
    bytes: int
    promised: tuple[float, ...] = ()


def page_aligned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Zeros that are already in memory, on a page of their own."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.full(size + 4096, 0, np.uint8)
    start = -raw.ctypes.data % 4096
    return raw[start : start + size].view(dtype).reshape(shape)


def at(array: np.ndarray, row: int = 0) -> int:
    return array.ctypes.data + row * array.strides[0]


class Matrices:
    """Gaussian weights, in FP8 with block scales and in bfloat16, and room for every result."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        values = rng.standard_normal((1024, K)).astype(np.float32)
        self.code, self.bf16 = page_aligned((N, K), np.uint8), page_aligned((N, K), np.uint16)
        self.code[...] = np.tile(codec.quantize(values, (BLOCK, BLOCK))[0], (N // 1024, 1))
        self.bf16[...] = np.tile(codec.to_bf16(values), (N // 1024, 1))
        self.scale = np.exp2(rng.uniform(-14, -6, (N // BLOCK, K // BLOCK))).astype(np.float32)
        self.to_u8, self.to_bf16 = page_aligned((N, K), np.uint8), page_aligned((N, K), np.uint16)
        self.to_f32, self.to_scale = page_aligned((N, K), np.float32), np.empty_like(self.scale)
        self.counts = np.zeros(self.scale.shape, np.int32)
        self.reused = {}

    def decode(self, name: str, to: np.ndarray) -> Callable[[int, int], object]:
        kernel, scale = getattr(kernels, name), self.scale
        where = (scale.ctypes.data, scale.shape[1])

        def run(row: int, rows: int) -> None:
            kernel(at(self.code, row), K, rows, K, *where, row, 0, BLOCK, BLOCK, at(to, row), K)

        return run

    def decode_reused(self, row: int, rows: int) -> None:
        """As many matrices of one expert as the rows hold, each into the same buffer."""
        high, wide = EXPERT
        if row not in self.reused:
            self.reused[row] = page_aligned(EXPERT, np.uint16)
        where = (self.scale.ctypes.data, self.scale.shape[1], 0, 0, BLOCK, BLOCK, at(self.reused[row]), wide)
        for start in range(0, rows * K, high * wide):
            kernels.decode_bf16(at(self.code, row) + start, wide, high, wide, *where)

    def move(self, mode: int, turned: bool) -> Callable[[int, int], object]:
        def run(row: int, rows: int) -> None:
            to = self.to_u8.ctypes.data + (row if turned else row * K)
            counts = at(self.counts, row // BLOCK)
            kernels.move(at(self.code, row), K, rows, K, to, N, int(turned), mode, BLOCK, BLOCK, counts)

        return run

    def quantize(self, row: int, rows: int) -> None:
        where = (at(self.to_u8, row), K, at(self.to_scale, row // BLOCK), K // BLOCK)
        kernels.quantize_bf16(at(self.bf16, row), K, rows, K, BLOCK, BLOCK, 448.0, *where)

    def compare(self, row: int, rows: int) -> None:
        out = np.array([0, 0, 0, 0, 0, -1.0])
        half = N // 2 * self.to_f32.strides[0]  # the halves of one matrix beside each other
        a, rows = at(self.to_f32, row // 2), rows // 2
        kernels.compare_f32(a, K, a + half, K, rows, K, 0, 0, 0, 0, 1, 1, 1e300, 0.0, out.ctypes.data)

    def same(self, row: int, rows: int) -> None:
        half = N // 2 * K
        kernels.same_bytes(at(self.code, row // 2), at(self.code, row // 2) + half, rows // 2 * K)

    def memcpy(self, row: int, rows: int) -> None:
        MEMCPY(at(self.to_bf16, row), at(self.bf16, row), rows * self.bf16.strides[0])


MEMCPY = ctypes.CDLL(None).memcpy
MEMCPY.argtypes, MEMCPY.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t), ctypes.c_void_p


def cases(m: Matrices) -> list[Case]:
    return [
        Case("memcpy", m.memcpy, 4),
        Case("FP8 -> BF16", m.decode("decode_bf16", m.to_bf16), 3, (1.0, 0.7)),
        Case("FP8 -> BF16, reused 9.4 MB", m.decode_reused, 3),
        Case("FP8 -> F32", m.decode("decode_f32", m.to_f32), 5),
        Case("halve", m.move(kernels.HALVE, False), 2),
        Case("halve and transpose", m.move(kernels.HALVE, True), 2, (0.45, 0.55)),
        Case("rescale by 448/240 and transpose", m.move(kernels.LEGACY, True), 2),
        Case("BF16 -> block FP8", m.quantize, 3, (0.28, 0.38)),
        Case("compare two F32", m.compare, 4),
        Case("same bytes", m.same, 1),
    ]


def seconds(case: Case, threads: int, pool: ThreadPoolExecutor) -> Callable[[], float]:
    """One candidate: the rows in equal parts, the first on this thread."""

    def run() -> float:
        rows = N // threads
        start = time.perf_counter()
        others = [pool.submit(case.run, k * rows, rows) for k in range(1, threads)]
        case.run(0, rows)
        for other in others:
            other.result()
        return time.perf_counter() - start

    return run


def print_table(every: list[Case], taken: dict[str, list[float]]) -> None:
    speeds = {name: N * K / median(runs) / 1e9 for name, runs in taken.items()}
    print(f"{'GB/s read + written (of memcpy; promised)':44}" + "".join(f"{f'{t} thread(s)':>26}" for t in THREADS))
    for case in every:
        line = f"{case.name:44}"
        for k, threads in enumerate(THREADS):
            speed = speeds[f"{case.name} x{threads}"] * case.bytes
            share = speed / (speeds[f"memcpy x{threads}"] * every[0].bytes)
            promised = f"; {case.promised[k]:.2f}" if case.promised else ""
            line += f"{f'{speed:.1f} ({share:.2f}{promised})':>26}"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="(default: 9)")
    rounds = parser.parse_args().rounds
    every = cases(Matrices())
    with ThreadPoolExecutor(max(THREADS)) as pool:
        candidates = {f"{case.name} x{t}": seconds(case, t, pool) for case in every for t in THREADS}
        for warm in candidates.values():
            warm()
        print(f"family: {kernels.family()}, {N * K / 1e6:.0f} M weights, {rounds} rounds")
        with foreign_load():
            print_table(every, by_turns(candidates, rounds))


if __name__ == "__main__":
    main()
