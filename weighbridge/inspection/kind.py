"""What the headers of one stored weight say, in few words: from the scheme that `formats.match` finds."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

from weighbridge.checkpoint.header import Tensor
from weighbridge.formats.kinds import kind_of, kind_of_dtype
from weighbridge.formats.match import NO_SIZE, Fit, Matcher
from weighbridge.formats.scheme import WHOLE, Encoding


class WeightKind(NamedTuple):
    """What the tensors of one weight together say. `parameters` counts real values of one weight, `shape` those along the stored axes.

    `encoding` has no scheme and no scale where none explains the tensors, and is None where not even the codes are known.
    `strategy` is none, tensor, channel, group or block; `block` (rows, columns) of stored values that share a scale, None where an axis is whole or
    the size is not known. `problem` is empty where all agrees, `code` names it. `slices` is how often the grid of scales restarts along the rows.
    """

    quantized: bool
    strategy: str
    block: tuple[int, int] | None
    parameters: int
    problem: str
    code: str = ""
    encoding: Encoding | None = None
    shape: tuple[int, ...] = ()
    slices: int = 1

    @property
    def packed(self) -> bool:
        """Whether a stored element holds several codes, or a part of one."""
        return self.encoding is not None and self.encoding.code.packing.packed

    def word(self, dtype: str) -> str:
        """The kind of the encoding in one word (`formats.kinds`), for a weight stored as `dtype`."""
        return kind_of(self.encoding) if self.encoding is not None else kind_of_dtype(dtype, self.quantized)

    @property
    def scheme(self) -> str:
        """The row of `formats.schemes` that the weight follows, empty where none does."""
        return self.encoding.scheme if self.encoding is not None and self.quantized else ""


NO_KIND = WeightKind(False, "none", None, 0, "")


def read_kind(matcher: Matcher, suffix: str, tensors: Mapping[str, Tensor], scale: Tensor | None) -> WeightKind:
    """The kind of a weight whose codes lie under `suffix`; `tensors` are its own by suffix, `scale` the one that counts as its scale."""
    fit = matcher.judge(tensors)
    weight = tensors[suffix]
    if fit.encoding is None:
        return _unexplained(matcher, suffix, tensors, scale, fit)
    encoding, shape = fit.encoding, fit.shape
    if fit.slices > 1 and scale is not None:
        rows, columns = encoding.block or (1, 1)
        text = (f"scale {list(scale.shape)} beside a weight {list(weight.shape)}; the claimed block {rows}x{columns} begins anew in each of {fit.slices} parts "
                f"of {shape[0] // fit.slices:,} rows")
        return WeightKind(True, "block", None, prod(shape), text, "scale-shape", encoding, shape, fit.slices)
    strategy = encoding.strategy_of(shape)
    block = encoding.block if strategy in ("group", "block") and encoding.block and WHOLE not in encoding.block else None
    return WeightKind(encoding.quantized, strategy, block, prod(shape), "", "", encoding, shape)


def _unexplained(matcher: Matcher, suffix: str, tensors: Mapping[str, Tensor], scale: Tensor | None, fit: Fit) -> WeightKind:
    """What is known of a weight that no scheme explains: its codes by their dtype and name, its strategy by the shape of the scale."""
    weight = tensors[suffix]
    code = matcher.code_of(suffix, weight.dtype, tensors)
    shape = code.filled_shape(weight.shape) if code else weight.shape
    if fit.code in ("scale-beside-float", "activation-beside-float"):
        problem = fit.problem if fit.code == "scale-beside-float" else ""
        return WeightKind(False, "none", None, prod(shape), problem, fit.code if problem else "", None, shape)
    strategy = "none" if scale is None else _strategy(shape, scale.shape)
    problem = "scale-shape" if fit.code in NO_SIZE.values() else fit.code  # nobody says which grid is right
    return WeightKind(True, strategy, None, prod(shape), fit.problem, problem, Encoding("", strategy, code) if code else None, shape)


def _strategy(shape: tuple[int, ...], grid: tuple[int, ...]) -> str:
    count, axes = prod(grid), shape[-2:]
    if count == 1:
        return "tensor"
    if len(axes) < 2 or count in axes:
        return "channel"
    return "group" if grid[-2:-1] == axes[:1] or grid[-1:] == axes[1:] else "block"
