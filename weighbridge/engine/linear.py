"""Matrices that stay as they are stored: FP8 codes with scales, BF16 bits or float32, multiplied as they are read.

A `Linear` is one logical matrix [N out, K in] that lies in one or more rectangles; `Experts` are those of all
routed experts of a layer. Nothing is decoded for longer than one panel of a few megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from weighbridge.encoding import codec
from weighbridge.engine.rectangle import Rectangle
from weighbridge.engine import panels, table
from weighbridge.engine.table import Part
from weighbridge.engine.team import LIMIT, threads, work
from weighbridge.errors import WeighbridgeError

__all__ = ["ACTIVATIONS", "Experts", "Linear", "silu", "threads"]
LOT = 256  # pairs of token and expert that go through the experts together
FEW, FEW_TURNED = 16, 8  # vectors up to which codes are multiplied as they are read; for more, decoding a panel pays


class Linear:
    """One logical matrix [N out, K in] made of rectangles (row, column, Rectangle), which are in logical axes.

    `reads` says what FP8 codes from 0x78 on mean to the reader: numbers and NaN ("e4m3fn"), or infinity and
    NaN ("e4m3", as a Neuron device reads them). Raises WeighbridgeError unless the rectangles tile the shape.
    """

    def __init__(self, parts: Sequence[Part], shape: tuple[int, int], *, reads: str = "e4m3fn") -> None:
        if reads not in LIMIT:
            raise WeighbridgeError("reading", f"{reads!r} is not a reading of FP8 codes", "reads", f"give one of {', '.join(LIMIT)}")
        self.shape, self.reads = (int(shape[0]), int(shape[1])), reads
        _require_tiling(parts, self.shape)
        self.parts = tuple((row, col, table.usable(q)) for row, col, q in sorted(parts, key=lambda part: part[:2]))
        self.nbytes = sum(q.codes_RC.nbytes + (0 if q.scale_RbCb is None else q.scale_RbCb.nbytes) for _, _, q in self.parts)

    @cached_property
    def few(self) -> int:
        return FEW_TURNED if any(table.order(q.codes_RC)[0] for _, _, q in self.parts) else FEW

    @cached_property
    def table(self) -> table.Table:
        return table.Table(table.make_jobs(self.parts))

    def __call__(self, x_TK: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """y = x @ W.T, float32 [T, K] -> float32 [T, N]. `out` can have any strides and any real type."""
        x_TK = np.ascontiguousarray(x_TK, np.float32)
        _require_width(x_TK, self.shape[1])
        if out is not None and out.shape != (len(x_TK), self.shape[0]):
            raise WeighbridgeError("width", f"the result is {[len(x_TK), self.shape[0]]}, the place for it {list(out.shape)}", "matrix")
        given, out = out, np.empty((len(x_TK), self.shape[0]), np.float32) if out is None or not _dense_rows(out) else out
        if len(x_TK) > self.few:
            panels.multiply(self.parts, x_TK, out, self.reads)
        elif len(x_TK):
            vectors = table.Vectors(x_TK, self.table.scaled)
            work(self.table.aimed(vectors, out), self.reads)
        if given is not None and given is not out:
            given[:] = out
        return out if given is None else given

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
                values = codec.from_bf16(codes) if q.dtype == "BF16" else codes
            out[place, col : col + q.shape[1]] = values
        return out

    def _decode(self, q: Rectangle) -> np.ndarray:
        if q.scale_RbCb is None:
            return q.decode()
        return codec.decode(q.codes_RC, q.scale_RbCb, q.block, self.reads, q.origin)


class Experts:
    """All routed experts of one layer: down(activation(gate x) * up x), weighted and summed over those chosen."""

    def __init__(self, gate: Sequence[Linear], up: Sequence[Linear], down: Sequence[Linear]) -> None:
        self.gate, self.up, self.down = tuple(gate), tuple(up), tuple(down)
        _require_experts(self.gate, self.up, self.down)
        self.reads, self._pairs = self.gate[0].reads, {}
        self.inter, self.hidden = self.gate[0].shape
        self.nbytes = sum(each.nbytes for each in (*self.gate, *self.up, *self.down))

    def __call__(self, x_TH: np.ndarray, chosen_Tk: np.ndarray, weights_Tk: np.ndarray, activation: str = "silu") -> np.ndarray:
        """float32 [T, H]; `chosen_Tk` are expert numbers (int64), `weights_Tk` their float32 weights."""
        activate = _activation(activation)
        x_TH, chosen_Tk = np.ascontiguousarray(x_TH, np.float32), np.asarray(chosen_Tk, np.int64)
        _require_width(x_TH, self.hidden)
        _require_chosen(chosen_Tk, len(x_TH), len(self.gate))
        out = np.zeros((len(x_TH), self.hidden), np.float32)
        chosen = chosen_Tk.reshape(-1)
        order = np.argsort(chosen, kind="stable")  # pairs of token and place, expert by expert
        counts = np.bincount(chosen, minlength=len(self.gate))
        experts = np.flatnonzero(counts)
        counts = counts[experts]
        ends = np.cumsum(counts)
        few = counts <= min(self.gate[0].few, self.up[0].few, self.down[0].few)
        pairs = [order[end - count : end] for end, count in zip(ends, counts)]
        for each in _batches([(e, p) for e, p, is_few in zip(experts, pairs, few) if is_few]):
            taken = np.concatenate([p for _, p in each])
            x = x_TH if len(x_TH) == 1 else x_TH[taken // chosen_Tk.shape[1]]
            y = self._few(x, [int(e) for e, _ in each], np.array([len(p) for _, p in each]), activate)
            _add(out, taken, y, weights_Tk)
        for e, p in ((int(e), p) for e, p, is_few in zip(experts, pairs, few) if not is_few):
            x = x_TH[p // chosen_Tk.shape[1]]
            _add(out, p, self.down[e](activate(self.gate[e](x)) * self.up[e](x)), weights_Tk)
        return out

    def _few(self, x_PH: np.ndarray, experts: list[int], counts: np.ndarray, activate) -> np.ndarray:
        """Rows of x for one expert after the other, `counts` for each, or one row for all: all gates and ups in one step, then all downs."""
        pairs = int(counts.sum())
        both, y = np.empty((pairs, 2 * self.inter), np.float32), np.empty((pairs, self.hidden), np.float32)
        self._stacked([self._gate_up(e) for e in experts], counts, x_PH, both)
        hidden = activate(both[:, : self.inter])
        hidden *= both[:, self.inter :]
        self._stacked([self.down[e].table for e in experts], counts, hidden, y)
        return y

    def _gate_up(self, expert: int) -> table.Table:
        """Gate and up of one expert as one matrix, up below gate."""
        if expert not in self._pairs:
            below = [(row + self.inter, col, q) for row, col, q in self.up[expert].parts]
            self._pairs[expert] = table.Table(table.make_jobs([*self.gate[expert].parts, *below]))
        return self._pairs[expert]

    def _stacked(self, tables: list[table.Table], counts: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
        """out = x @ W.T for the rows of x of each expert; all in one call per thread."""
        joined, sizes = table.Table.join(tables), [len(each.jobs) for each in tables]
        first, vectors = np.cumsum(counts) - counts, table.Vectors(x, joined.scaled)
        work(joined.aimed(vectors, out, np.repeat(first, sizes), np.repeat(counts, sizes), shared=len(x) == 1), self.reads)


def _batches(pairs: list) -> Iterator[list]:
    """Experts with their pairs, in lots of at most LOT pairs."""
    lot, size = [], 0
    for expert, taken in pairs:
        if lot and size + len(taken) > LOT:
            yield lot
            lot, size = [], 0
        lot.append((expert, taken))
        size += len(taken)
    if lot:
        yield lot


def _add(out: np.ndarray, pairs: np.ndarray, y: np.ndarray, weights_Tk: np.ndarray) -> None:
    """Add the results of pairs of token and place to the tokens, each times its weight, in the order of the pairs."""
    tokens, places = np.divmod(pairs, weights_Tk.shape[1])
    if len(out) == 1:
        out[0] += weights_Tk[0, places] @ y
        return
    y *= weights_Tk[tokens, places][:, None]
    for token, row in zip(tokens, y):
        out[token] += row


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x), float32; an exp that overflows gives the right 0."""
    with np.errstate(over="ignore"):
        y = np.exp(-x)
    y += 1
    return np.divide(x, y, out=y)


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


def _require_width(x: np.ndarray, width: int) -> None:
    if x.ndim != 2 or x.shape[1] != width:
        raise WeighbridgeError("width", f"the vectors are {list(x.shape)}, the matrix takes [T, {width}]", "matrix",
                               "the shapes of this model do not fit together")


def _dense_rows(out: np.ndarray) -> bool:
    return out.dtype == np.float32 and out.strides[1] == 4 and out.strides[0] % 4 == 0 and out.flags.writeable


def _require_rows(ids: np.ndarray, rows: int) -> None:
    if len(ids) and not (0 <= ids.min() and ids.max() < rows):
        wrong = int(ids[(ids < 0) | (ids >= rows)][0])
        raise WeighbridgeError("token", f"the token {wrong} is not one of {rows}", "embedding", "use the tokenizer of this checkpoint")


def _require_chosen(chosen: np.ndarray, tokens: int, experts: int) -> None:
    if chosen.ndim != 2 or len(chosen) != tokens or (chosen.size and not (0 <= chosen.min() and chosen.max() < experts)):
        raise WeighbridgeError("experts", f"{list(chosen.shape)} chosen experts from {chosen.min(initial=0)} to {chosen.max(initial=0)} "
                               f"for {tokens} tokens; there are experts 0 to {experts - 1}", "router",
                               "the router and the experts of this layer do not belong together")


def _require_experts(gate: Sequence[Linear], up: Sequence[Linear], down: Sequence[Linear]) -> None:
    if not gate or not len(gate) == len(up) == len(down):
        raise WeighbridgeError("experts", f"{len(gate)} gates, {len(up)} ups and {len(down)} downs", "experts", "each expert has one of each")
    inter, hidden = gate[0].shape
    for number, shapes in enumerate(zip((g.shape for g in gate), (u.shape for u in up), (d.shape for d in down))):
        if shapes != ((inter, hidden), (inter, hidden), (hidden, inter)):
            raise WeighbridgeError("experts", f"gate, up and down are {', '.join(map(str, map(list, shapes)))}; "
                                   f"gate of expert 0 is [{inter}, {hidden}]", f"expert {number}",
                                   "gate and up must be [inter, hidden], down [hidden, inter], the same for all experts")
