"""Real bytes for the true-shape piece of the replica, about a gigabyte per second.

A pool of gaussian blocks is quantized once; every weight is then put together from blocks of the pool in a random
order. So the codes are distributed as in real weights, and the maximum of every block is 448 (0x7E or 0xFE).
"""
from __future__ import annotations

from collections.abc import Iterable
from math import prod

import ml_dtypes
import numpy as np

from .quantize import quantize_blocks
from .safetensors_writer import write_at
from .shapes import BLOCK, SCALE_RANGE, Spec

POOL_BLOCKS = 1024
POOL_VALUES = 1 << 22
CHUNK = 1 << 20


class RandomData:
    """Fills every tensor of a file. What it writes depends on the seed and on the order of the calls."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        gauss = self.random.standard_normal((POOL_BLOCKS * BLOCK, BLOCK), dtype=np.float32)
        self.blocks = quantize_blocks(gauss)[0].reshape(POOL_BLOCKS, BLOCK, BLOCK)
        self.gauss = self.random.standard_normal(POOL_VALUES, dtype=np.float32) * np.float32(0.02)
        self.gauss_bf16 = self.gauss.astype(ml_dtypes.bfloat16)

    def fill(self, file: int, placed: Iterable[tuple[int, Spec]]) -> None:
        for position, spec in placed:
            for piece in self.pieces(spec):
                data = np.ascontiguousarray(piece).view(np.uint8).reshape(-1)
                write_at(file, data, position)
                position += data.nbytes

    def pieces(self, spec: Spec) -> Iterable[np.ndarray]:
        """The tensor's values, in one or more pieces."""
        if spec.dtype == "F8_E4M3":
            return [self.codes(*spec.shape)]
        if spec.is_scale:
            return [np.exp(self.random.uniform(*np.log(SCALE_RANGE), spec.shape)).astype("<f4")]
        if spec.name.endswith("e_score_correction_bias"):
            return [self.random.uniform(8, 9.5, spec.shape).astype("<f4")]
        if "norm" in spec.name:
            return [(1 + 0.1 * self.random.standard_normal(spec.shape)).astype(ml_dtypes.bfloat16)]
        return self.dense(prod(spec.shape), self.gauss if spec.dtype == "F32" else self.gauss_bf16)

    def codes(self, rows: int, columns: int) -> np.ndarray:
        """FP8 codes [rows, columns] from blocks of the pool; both sizes must be multiples of 128."""
        if rows % BLOCK or columns % BLOCK:
            raise ValueError(f"[{rows}, {columns}] is no multiple of {BLOCK}: a ragged block may miss its maximum")
        out = np.empty((rows // BLOCK, BLOCK, columns // BLOCK, BLOCK), np.uint8)
        picked = self.random.integers(POOL_BLOCKS, size=(out.shape[0], out.shape[2]))
        for row, column in np.ndindex(picked.shape):
            out[row, :, column] = self.blocks[picked[row, column]]
        return out

    def dense(self, count: int, pool: np.ndarray) -> Iterable[np.ndarray]:
        """`count` gaussian values, in runs of the pool from random starts."""
        while count > 0:
            start = self.random.integers(POOL_VALUES - CHUNK + 1)
            yield pool[start : start + min(count, CHUNK)]
            count -= CHUNK
