"""A quantized tensor is one value: codes, scale and block grid travel together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from weighbridge.encoding import codec
from weighbridge.encoding.scheme import Encoding

CONTAINER = {"F8_E4M3": np.uint8, "BF16": np.uint16, "F16": np.float16, "F32": np.float32, "I32": np.int32}


@dataclass(frozen=True, slots=True)
class QTensor:
    """A rectangle of a stored matrix with its scales.

    `codes_RC` is a view of the stored bytes (uint8 codes, uint16 BF16 bits, float16 or float32), `scale_RbCb` the
    float32 scales of the blocks that it touches, `origin` the position of its corner in the first of them.
    `encoding.block` is in the axes of `codes_RC`. Cutting and turning move the scales with the codes.
    """

    codes_RC: np.ndarray
    scale_RbCb: np.ndarray | None
    encoding: Encoding
    origin: tuple[int, int] = (0, 0)

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes_RC.shape  # type: ignore[return-value]

    @property
    def T(self) -> QTensor:  # noqa: N802 - numpy's name
        scale = None if self.scale_RbCb is None else self.scale_RbCb.T
        return QTensor(self.codes_RC.T, scale, self.encoding.turned(), self.origin[::-1])

    def cut(self, row: int, col: int, rows: int, cols: int) -> QTensor:
        """The rectangle at (row, col), with the scales of the blocks that it touches."""
        codes = self.codes_RC[row : row + rows, col : col + cols]
        if self.scale_RbCb is None:
            return replace(self, codes_RC=codes)
        high, wide = self.encoding.block  # type: ignore[misc]
        top, left = self.origin[0] + row, self.origin[1] + col
        grid = self.scale_RbCb[top // high : -(-(top + rows) // high), left // wide : -(-(left + cols) // wide)]
        return QTensor(codes, grid, self.encoding, (top % high, left % wide))

    def decode(self) -> np.ndarray:
        """Real values as float32 [R, C]: the specification, not the fast way."""
        if self.scale_RbCb is not None:
            return codec.decode(self.codes_RC, self.scale_RbCb, self.encoding.block, self.encoding.fmt, self.origin)
        return codec.from_bf16(self.codes_RC) if self.encoding.dtype == "BF16" else np.asarray(self.codes_RC, np.float32)

    def scales_at(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """The scales of the elements at `rows` x `cols` of this rectangle."""
        high, wide = self.encoding.block  # type: ignore[misc]
        return self.scale_RbCb[np.ix_((self.origin[0] + rows) // high, (self.origin[1] + cols) // wide)]  # type: ignore[index]
