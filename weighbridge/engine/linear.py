"""Matrices that stay as they are stored: FP8 codes with scales, BF16 bits or float32, multiplied as they are read.

A `Linear` is one logical matrix [N out, K in] that lies in one or more rectangles; `Experts` are those of all
routed experts of a layer. Nothing is decoded for longer than one panel of a few megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from weighbridge.convert.run import thread_count
from weighbridge.encoding import codec
from weighbridge.encoding.qtensor import QTensor
from weighbridge.errors import WeighbridgeError

PANEL = 4 << 20  # bytes of float32 that are decoded at a time
READS = ("e4m3fn", "e4m3")  # how a reader takes FP8 codes: from 0x78 on they are numbers, or infinity and NaN
Part = tuple[int, int, QTensor]


def threads() -> int:
    """WEIGHBRIDGE_THREADS, or the CPUs that this process may use."""
    return thread_count()


class Linear:
    """One logical matrix [N out, K in] made of rectangles (row, column, QTensor), which are in logical axes.

    `reads` says what FP8 codes from 0x78 on mean to the reader: numbers and NaN ("e4m3fn"), or infinity and
    NaN ("e4m3", as a Neuron device reads them). Raises WeighbridgeError unless the rectangles tile the shape.
    """

    def __init__(self, parts: Sequence[Part], shape: tuple[int, int], *, reads: str = "e4m3fn") -> None:
        if reads not in READS:
            raise WeighbridgeError("reading", f"{reads!r} is not a reading of FP8 codes", "reads", f"give one of {', '.join(READS)}")
        self.parts, self.shape, self.reads = tuple(sorted(parts, key=lambda part: part[:2])), (int(shape[0]), int(shape[1])), reads
        _require_tiling(self.parts, self.shape)
        self.nbytes = sum(q.codes_RC.nbytes + (0 if q.scale_RbCb is None else q.scale_RbCb.nbytes) for _, _, q in self.parts)

    def __call__(self, x_TK: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """y = x @ W.T, float32 [T, K] -> float32 [T, N]."""
        x_TK = np.ascontiguousarray(x_TK, np.float32)
        out = np.empty((len(x_TK), self.shape[0]), np.float32) if out is None else out
        out[:] = 0
        for row, col, panel in self._panels():
            out[:, row : row + panel.shape[0]] += x_TK[:, col : col + panel.shape[1]] @ self._decode(panel).T
        return out

    def reference(self, x_TK: np.ndarray) -> np.ndarray:
        """The specification: every value decoded, the dot product in float64."""
        whole = np.empty(self.shape, np.float64)
        for row, col, q in self.parts:
            whole[row : row + q.shape[0], col : col + q.shape[1]] = self._decode(q)
        with np.errstate(invalid="ignore", over="ignore"):
            return (np.asarray(x_TK, np.float64) @ whole.T).astype(np.float32)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """float32 [len(ids), K]: the rows of an embedding. No other row is read."""
        ids = np.asarray(ids, np.int64).reshape(-1)
        _require_rows(ids, self.shape[0])
        out = np.empty((len(ids), self.shape[1]), np.float32)
        for row, col, q in self.parts:
            place = np.flatnonzero((ids >= row) & (ids < row + q.shape[0]))
            local = ids[place] - row
            codes = q.codes_RC[local]
            if q.scale_RbCb is not None:
                with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                    values = codec.decode_table(self.reads)[codes] * q.scales_at(local, np.arange(q.shape[1]))
            else:
                values = codec.from_bf16(codes) if q.encoding.dtype == "BF16" else codes
            out[place, col : col + q.shape[1]] = values
        return out

    def _panels(self) -> Iterator[Part]:
        """The rectangles, cut to at most PANEL bytes of float32."""
        for row, col, q in self.parts:
            rows, cols = q.shape
            step = max(1, PANEL // 4 // max(1, cols))
            for start in range(0, rows, step):
                yield row + start, col, q.cut(start, 0, min(step, rows - start), cols)

    def _decode(self, q: QTensor) -> np.ndarray:
        if q.scale_RbCb is None:
            return q.decode()
        return codec.decode(q.codes_RC, q.scale_RbCb, q.encoding.block, self.reads, q.origin)


class Experts:
    """All routed experts of one layer: down(activation(gate x) * up x), weighted and summed over those chosen."""

    def __init__(self, gate: Sequence[Linear], up: Sequence[Linear], down: Sequence[Linear]) -> None:
        self.gate, self.up, self.down = tuple(gate), tuple(up), tuple(down)
        _require_experts(self.gate, self.up, self.down)
        self.nbytes = sum(each.nbytes for each in (*self.gate, *self.up, *self.down))

    def __call__(self, x_TH: np.ndarray, chosen_Tk: np.ndarray, weights_Tk: np.ndarray, activation: str = "silu") -> np.ndarray:
        """float32 [T, H]; `chosen_Tk` are expert numbers (int64), `weights_Tk` their float32 weights."""
        activate = _activation(activation)
        x_TH = np.ascontiguousarray(x_TH, np.float32)
        out = np.zeros((len(x_TH), self.down[0].shape[0]), np.float32)
        for expert in np.unique(chosen_Tk):
            token, place = np.nonzero(chosen_Tk == expert)
            x = x_TH[token]
            y = self.down[expert](activate(self.gate[expert](x)) * self.up[expert](x))
            out[token] += weights_Tk[token, place][:, None] * y
        return out


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x), float32; an exp that overflows gives the right 0."""
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-x))


ACTIVATIONS = {"silu": silu}


def _activation(name: str):
    if name not in ACTIVATIONS:
        raise WeighbridgeError("activation", f"the activation {name!r} is not known", "config.json: hidden_act", f"known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _require_tiling(parts: Sequence[Part], shape: tuple[int, int]) -> None:
    """Each element of the shape lies in exactly one rectangle."""
    for row, col, q in parts:
        if row < 0 or col < 0 or row + q.shape[0] > shape[0] or col + q.shape[1] > shape[1]:
            raise WeighbridgeError("rectangle", f"the rectangle at [{row}, {col}] of {list(q.shape)} leaves the matrix of {list(shape)}", "matrix")
    edges = [np.unique([0, shape[axis], *(e for p in parts for e in (p[axis], p[axis] + p[2].shape[axis]))]) for axis in (0, 1)]
    covered = np.zeros((len(edges[0]) - 1, len(edges[1]) - 1), np.int64)
    for row, col, q in parts:
        top, bottom = np.searchsorted(edges[0], [row, row + q.shape[0]])
        left, right = np.searchsorted(edges[1], [col, col + q.shape[1]])
        covered[top:bottom, left:right] += 1
    wrong = np.argwhere(covered != 1)
    if len(wrong):
        row, col = int(edges[0][wrong[0][0]]), int(edges[1][wrong[0][1]])
        raise WeighbridgeError("tiling", f"{int(covered[tuple(wrong[0])])} rectangles hold the element [{row}, {col}] of a matrix of {list(shape)}, "
                               "not 1", "matrix", "the layout of this checkpoint does not give this weight once")


def _require_rows(ids: np.ndarray, rows: int) -> None:
    if len(ids) and not (0 <= ids.min() and ids.max() < rows):
        wrong = int(ids[(ids < 0) | (ids >= rows)][0])
        raise WeighbridgeError("token", f"the token {wrong} is not one of {rows}", "embedding", "use the tokenizer of this checkpoint")


def _require_experts(gate: Sequence[Linear], up: Sequence[Linear], down: Sequence[Linear]) -> None:
    if not gate or not len(gate) == len(up) == len(down):
        raise WeighbridgeError("experts", f"{len(gate)} gates, {len(up)} ups and {len(down)} downs", "experts", "each expert has one of each")
    inter, hidden = gate[0].shape
    for number, shapes in enumerate(zip((g.shape for g in gate), (u.shape for u in up), (d.shape for d in down))):
        if shapes != ((inter, hidden), (inter, hidden), (hidden, inter)):
            raise WeighbridgeError("experts", f"gate, up and down are {', '.join(map(str, map(list, shapes)))}; gate of expert 0 is [{inter}, {hidden}]",
                                   f"expert {number}", "gate and up must be [inter, hidden], down [hidden, inter], the same for all experts")
