"""How a stored tensor holds its values: dtype, strategy and block grid. No numpy here: planning needs none."""

from __future__ import annotations

from dataclasses import dataclass, replace

from weighbridge.checkpoint.dtypes import BITS, FP8


@dataclass(frozen=True, slots=True)
class Encoding:
    """Encoding of one stored tensor, in the words of compressed-tensors.

    `block` is (rows, columns) of the last two *stored* axes that share one scale; it is None for a
    tensor without scale. A row scale is the block (1, columns). `peak` is the largest magnitude that
    the reader takes: 448 for OCP e4m3fn, 240 for Neuron's E4M3, whose codes mean the same up to there.
    """

    dtype: str
    block: tuple[int, int] | None = None
    scale_dtype: str = "F32"
    peak: float = 448.0

    @property
    def quantized(self) -> bool:
        return self.block is not None

    @property
    def itemsize(self) -> int:
        return BITS[self.dtype] // 8

    @property
    def scale_itemsize(self) -> int:
        return BITS[self.scale_dtype] // 8

    @property
    def fmt(self) -> str:
        return "e4m3" if self.peak == 240.0 else "e4m3fn"

    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the scale grid of a stored shape: leading axes whole, the last two in blocks, rounded up."""
        assert self.block is not None
        *lead, rows, columns = shape
        return (*lead, -(-rows // self.block[0]), -(-columns // self.block[1]))

    def turned(self) -> Encoding:
        """The same encoding seen along the other order of the last two axes."""
        return replace(self, block=self.block[::-1]) if self.block else self

    def describe(self, shape: tuple[int, ...] | None = None) -> str:
        """One phrase: `F8_E4M3 (max 240), block 128x128, F32 scales`."""
        if self.block is None:
            return self.dtype
        rows, columns = self.block
        whole = shape is not None and columns >= shape[-1]
        grid = "one scale per row" if rows == 1 and whole else f"block {rows}x{columns}"
        return f"{self.dtype} (max {self.peak:g}), {grid}, {self.scale_dtype} scales"


def plain(dtype: str) -> Encoding:
    return Encoding(dtype)


FLOATS = frozenset({"F32", "BF16", "F16"})  # real values as they are: what a weight without a scale may be stored in


def is_code(dtype: str) -> bool:
    """Whether a dtype holds codes that mean nothing without a scale."""
    return dtype in FP8
