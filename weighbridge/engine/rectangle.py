"""A rectangle of a matrix as the kernels multiply it: FP8 codes under one scale for each block, BF16 bits or float32, where they lie in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from weighbridge.encoding import codec as fp8
from weighbridge.formats.qtensor import QTensor
from weighbridge.formats.scheme import Encoding, Role
from weighbridge.formats.values import Scratch, single_grid, values


@dataclass(frozen=True, slots=True)
class Rectangle:
    """`codes_RC` is a view of the stored bytes (uint8 codes, uint16 BF16 bits or float32), `scale_RbCb` the float32 scales of the blocks that it
    touches, `origin` the position of its corner in the first of them. `block` is in the axes of `codes_RC`, `dtype` as safetensors spells it.
    """

    codes_RC: np.ndarray
    scale_RbCb: np.ndarray | None
    dtype: str
    block: tuple[int, int] | None = None
    origin: tuple[int, int] = (0, 0)

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes_RC.shape  # type: ignore[return-value]

    @property
    def T(self) -> Rectangle:  # noqa: N802 - numpy's name
        scale = None if self.scale_RbCb is None else self.scale_RbCb.T
        return Rectangle(self.codes_RC.T, scale, self.dtype, self.block and self.block[::-1], self.origin[::-1])

    def cut(self, row: int, col: int, rows: int, cols: int) -> Rectangle:
        """The rectangle at (row, col), with the scales of the blocks that it touches."""
        codes = self.codes_RC[row : row + rows, col : col + cols]
        if self.scale_RbCb is None or self.block is None:
            return replace(self, codes_RC=codes)
        high, wide = self.block
        top, left = self.origin[0] + row, self.origin[1] + col
        grid = self.scale_RbCb[top // high : -(-(top + rows) // high), left // wide : -(-(left + cols) // wide)]
        return Rectangle(codes, grid, self.dtype, self.block, (top % high, left % wide))

    def scales_at(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """The scales of the elements at `rows` x `cols`, float32."""
        assert self.scale_RbCb is not None and self.block is not None
        high, wide = self.block
        return self.scale_RbCb[np.ix_((self.origin[0] + rows) // high, (self.origin[1] + cols) // wide)]

    def decode(self) -> np.ndarray:
        """Real values as float32 [R, C]: the specification, not the fast way."""
        if self.scale_RbCb is not None and self.block is not None:
            return fp8.decode(self.codes_RC, self.scale_RbCb, self.block, "e4m3fn", self.origin)
        return fp8.from_bf16(self.codes_RC) if self.dtype == "BF16" else np.asarray(self.codes_RC, np.float32)


def rectangle_of(q: QTensor, rounded: bool = False) -> Rectangle:
    """What the kernels multiply of `q`: its bytes where they read them, else its values in float32. `rounded`: float32 weights become BF16 first."""
    scaled = single_grid(q)
    if scaled is not None:
        return Rectangle(q.codes_RC, q.grids[0].values, "F8_E4M3", scaled[1], q.origin)
    if not q.encoding.quantized and q.encoding.dtype in ("BF16", "F32"):
        if rounded and q.encoding.dtype == "F32":
            return Rectangle(fp8.to_bf16(q.codes_RC), None, "BF16")
        return Rectangle(q.codes_RC, None, q.encoding.dtype)
    out = np.empty(q.shape, np.float32)
    values(q, out, Scratch())
    return Rectangle(out, None, "F32")


def multiplied_as_stored(encoding: Encoding) -> bool:
    """Whether the kernels multiply the bytes of this encoding; values of others lie in memory as float32."""
    if not encoding.quantized:
        return encoding.dtype in ("BF16", "F32")
    weighing = [f for f in encoding.factors if f.weighs]
    return encoding.element in ("e4m3fn", "e4m3") and len(weighing) == 1 and weighing[0].role is Role.SCALE
