"""Kernels in memory: codes and values of about 150 million weights, beside libc's memcpy.

    python -m benchmarks.bench_kernels [--rounds N] [--experts N] [--family NAME]

GB/s counts each byte that is read and each byte that is written once. The ratio is to memcpy of the same run and the
same number of threads. Contenders run by turns, each once per round; figures are medians. Two threads are the caller
and one worker, with half of the rows each. "Reused" rows write every expert matrix into one buffer of 9.4 MB, as the
converter does; two threads have a buffer each.
"""
from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks import harness
from weighbridge.encoding import codec, kernels

ROWS, COLUMNS, BLOCK = 1536, 3072, 128  # one expert matrix of MiniMax-M2
PIECE = ROWS * COLUMNS  # codes of it; 9.4 MB as bfloat16
MEMCPY = ctypes.CDLL(None).memcpy
MEMCPY.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


class Memory:
    """The arrays that all contenders share, every page touched."""

    def __init__(self, experts: int):
        rng = np.random.default_rng(0)
        values = (rng.standard_normal((ROWS, COLUMNS)) * 0.02).astype(np.float32)
        codes = codec.quantize(values, (BLOCK, BLOCK))[0]
        self.experts, self.rows = experts, experts * ROWS
        self.bf16, self.code = _aligned(2 * experts * PIECE), _aligned(experts * PIECE)
        self.bf16[:] = np.tile(codec.to_bf16(values).view(np.uint8).ravel(), experts)
        self.code[:] = np.tile(codes.ravel(), experts)
        self.shifted = _aligned(experts * PIECE + 8)[8:]
        self.shifted[:] = self.code
        self.scale = rng.uniform(1e-4, 3e-4, (self.rows // BLOCK, COLUMNS // BLOCK)).astype(np.float32)
        self.out = _aligned(4 * self.code.size)  # wide enough for float32
        self.grid = np.empty_like(self.scale)
        self.counts = np.empty(self.scale.size, np.int32)
        self.reused = [_aligned(2 * PIECE) for _ in range(2)]


def _aligned(size: int) -> np.ndarray:
    """Ones from the start of a page, all of them in memory."""
    buffer = np.ones(size + 4096, np.uint8)
    start = -buffer.ctypes.data % 4096
    return buffer[start : start + size]


@dataclass(frozen=True)
class Contender:
    """`run` (first expert, experts, thread) does part of the work; `traffic` is bytes read and written per weight."""

    name: str
    traffic: int
    run: Callable[[int, int, int], object]

    def seconds(self, experts: int, pool: ThreadPoolExecutor | None) -> float:
        start = time.perf_counter()
        if pool is None:
            self.run(0, experts, 0)
        else:
            half = experts // 2
            other = pool.submit(self.run, half, experts - half, 1)
            self.run(0, half, 0)
            other.result()
        return time.perf_counter() - start


def memcpy_contenders(m: Memory) -> list[Contender]:
    def whole(first, n, thread):
        MEMCPY(m.out.ctypes.data + 2 * first * PIECE, m.bf16.ctypes.data + 2 * first * PIECE, 2 * n * PIECE)

    def reused(first, n, thread):
        for expert in range(first, first + n):
            MEMCPY(m.reused[thread].ctypes.data, m.bf16.ctypes.data + 2 * expert * PIECE, 2 * PIECE)

    return [Contender("memcpy", 4, whole), Contender("memcpy, reused", 4, reused)]


def decode_contenders(m: Memory, family: str) -> list[Contender]:
    grid = COLUMNS // BLOCK

    def decode(name: str, item: int):
        kernel = kernels.load(name, family)

        def run(first, n, thread):
            kernel(
                m.code.ctypes.data + first * PIECE, COLUMNS, n * ROWS, COLUMNS, m.scale.ctypes.data, grid,
                first * ROWS, 0, BLOCK, BLOCK, m.out.ctypes.data + item * first * PIECE, COLUMNS,
            )  # fmt: skip

        return run

    kernel = kernels.load("decode_bf16", family)

    def reused(first, n, thread):
        for expert in range(first, first + n):
            kernel(
                m.code.ctypes.data + expert * PIECE, COLUMNS, ROWS, COLUMNS, m.scale.ctypes.data, grid,
                expert * ROWS, 0, BLOCK, BLOCK, m.reused[thread].ctypes.data, COLUMNS,
            )  # fmt: skip

    return [
        Contender("FP8 -> BF16", 3, decode("decode_bf16", 2)),
        Contender("FP8 -> BF16, reused", 3, reused),
        Contender("FP8 -> F32", 5, decode("decode_f32", 4)),
    ]


def move_contenders(m: Memory, family: str) -> list[Contender]:
    kernel = kernels.load("move", family)

    def move(mode: int, transposed: int, source: np.ndarray, reused: bool = False):
        def run(first, n, thread):
            for expert in range(first, first + n):
                start, cells = expert * PIECE, expert * PIECE // BLOCK**2
                kernel(
                    source.ctypes.data + start, COLUMNS, ROWS, COLUMNS,
                    m.reused[thread].ctypes.data if reused else m.out.ctypes.data + start,
                    ROWS if transposed else COLUMNS, transposed, mode, BLOCK, BLOCK, m.counts.ctypes.data + 4 * cells,
                )  # fmt: skip

        return run

    return [
        Contender("halve", 2, move(kernels.HALVE, 0, m.code)),
        Contender("halve, transposed", 2, move(kernels.HALVE, 1, m.code)),
        Contender("halve, transposed, unaligned", 2, move(kernels.HALVE, 1, m.shifted)),
        Contender("halve, transposed, reused", 2, move(kernels.HALVE, 1, m.code, True)),
        Contender("the same, unaligned", 2, move(kernels.HALVE, 1, m.shifted, True)),
    ]


def quantize_contenders(m: Memory, family: str) -> list[Contender]:
    kernel = kernels.load("quantize_bf16", family)

    def run(first, n, thread):
        kernel(
            m.bf16.ctypes.data + 2 * first * PIECE, COLUMNS, n * ROWS, COLUMNS, BLOCK, BLOCK, 448.0,
            m.out.ctypes.data + first * PIECE, COLUMNS,
            m.grid.ctypes.data + 4 * first * PIECE // BLOCK**2, COLUMNS // BLOCK,
        )  # fmt: skip

    return [Contender("BF16 -> block FP8", 3, run)]


def table(contenders: list[Contender], experts: int, rounds: int) -> None:
    with ThreadPoolExecutor(1) as pool:
        turns = {}
        for contender in contenders:
            for threads, workers in ((1, None), (2, pool)):
                turns[contender.name, threads] = lambda c=contender, w=workers: c.seconds(experts, w)
                turns[contender.name, threads]()  # Compiles, and wakes the worker.
        with harness.foreign_load():
            seconds = {name: harness.median(taken) for name, taken in harness.by_turns(turns, rounds).items()}
            report(contenders, experts, seconds)


def report(contenders: list[Contender], experts: int, seconds: dict[tuple[str, int], float]) -> None:
    def rate(contender: Contender, threads: int) -> float:
        return contender.traffic * experts * PIECE / seconds[contender.name, threads] / 1e9

    print(f"{experts * PIECE / 1e6:.0f} M weights; GB/s read and written (of memcpy)")
    print(f"  {'':32} {'1 thread':>16} {'2 threads':>16}")
    for contender in contenders:
        rates = [(rate(contender, threads), rate(contenders[0], threads)) for threads in (1, 2)]
        print(f"  {contender.name:32}" + "".join(f"{own:9.1f} ({own / copy:.2f})" for own, copy in rates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="(default: 7)")
    parser.add_argument("--experts", type=int, default=32, help="matrices of 4.7 M weights (default: 32)")
    parser.add_argument("--family", choices=kernels.FAMILIES, default=kernels.family(), help="(default: the fastest)")
    options = parser.parse_args()
    memory = Memory(options.experts)
    contenders = memcpy_contenders(memory)
    for make in (decode_contenders, move_contenders, quantize_contenders):
        contenders += make(memory, options.family)
    print(f"kernel family: {options.family}")
    table(contenders, options.experts, options.rounds)


if __name__ == "__main__":
    main()
