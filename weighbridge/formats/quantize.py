"""The specification of quantizing without calibration: values to codes and scales, each scheme by the rounding of its own library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from weighbridge.formats import codec
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.qtensor import Grid, QTensor
from weighbridge.formats.rules import RULES, Blocks, Rule
from weighbridge.formats.scheme import WHOLE, Encoding, Field, Role
from weighbridge.formats.schemes import SCHEMES

E2M1_MIDDLES = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5], np.float32)


class Quantized(NamedTuple):
    """The value, and how many blocks were refused: they hold NaN or infinity, or their scale does not fit its dtype. Their codes mean nothing."""

    q: QTensor
    refused: int


def quantize(values: np.ndarray, encoding: Encoding, given: Mapping[str, np.ndarray] | None = None, largest: float | None = None,
             rule: str = "") -> Quantized:
    """Codes and grids of a matrix of float32 [rows, columns], in the axes in which the scheme is stored; blocks begin at its corner.

    `given` are factors' own values by suffix, float32 grids: they are kept and the rest follows from them. Where all are given, a -0 keeps its sign,
    too: so decoded values get their codes back. `largest` is the largest magnitude of the tensor and of what readers fuse with it, for schemes with a
    scale for the tensor (default: of these values, which must then be all of it). `rule` names another rule than the scheme's. Raises ValueError for
    a scheme that has none, and for a given grid of another size.
    """
    values, given = np.asarray(values, np.float32), given or {}
    chosen = rule_of(encoding, rule)
    blocks = blocks_of(values, encoding, largest)
    grids, chosen = grids_of(blocks, encoding, given, chosen)
    q = QTensor(np.empty(values.shape, np.uint8), encoding, grids)
    refused = refused_blocks(q, blocks)
    rows, cols = (np.arange(n) for n in values.shape)
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        zero = q.grid(Role.ZERO)
        codes = codes_of(values, q.scales_at(rows, cols), q.factor_at(zero, rows, cols) if zero else None, encoding, chosen)
    return Quantized(QTensor(codes, encoding, grids), int(np.count_nonzero(refused)))


def rule_of(encoding: Encoding, name: str = "") -> Rule:
    """The rule of this name, or the scheme's. Raises ValueError for a scheme that has none."""
    chosen = RULES.get(name or SCHEMES[encoding.scheme].rule)
    if chosen is None:
        raise ValueError(f"{encoding.scheme} is read only: no rule makes its scales")
    return chosen


def blocks_of(values: np.ndarray, encoding: Encoding, largest: float | None = None) -> Blocks:
    """The least and the greatest value of each block of the scale."""
    assert encoding.block is not None
    starts = [np.arange(0, length, size or max(1, length)) for length, size in zip(values.shape, encoding.block, strict=True)]
    low = np.minimum.reduceat(np.minimum.reduceat(values, starts[0], axis=0), starts[1], axis=1)
    high = np.maximum.reduceat(np.maximum.reduceat(values, starts[0], axis=0), starts[1], axis=1)
    return with_largest(low, high, encoding, largest)


def with_largest(low: np.ndarray, high: np.ndarray, encoding: Encoding, largest: float | None) -> Blocks:
    """The ranges with the largest magnitude of the tensor: it is the range itself where one scale holds for the tensor."""
    blocks = Blocks(low, high, np.float32(0))
    if largest is None:
        return blocks._replace(largest=np.float32(blocks.amax.max()))
    whole = np.float32(largest)
    if encoding.block == (WHOLE, WHOLE):
        return Blocks(np.minimum(low, -whole), np.maximum(high, whole), whole)
    return blocks._replace(largest=whole)


def grids_of(blocks: Blocks, encoding: Encoding, given: Mapping[str, np.ndarray], rule: Rule) -> tuple[tuple[Grid, ...], Rule]:
    """The factors' grids by a rule, but for the given ones; and the rule for the codes: where all are given, a -0 keeps its sign."""
    weighing = [f for f in encoding.factors if f.weighs and f.role is not Role.ORDER]
    names = {f.suffix for field in weighing for f in (field, *field.inner)}
    kept = names <= given.keys()
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        own = {} if kept else rule.grids(blocks, encoding, given)
    own = {name: np.asarray(given.get(name, own.get(name)), np.float32) for name in names}
    for field in weighing:
        _right_size(field, own, blocks.low.shape)
    return tuple(_grid(f, own) for f in weighing), rule._replace(signed_zero=True) if kept else rule


def _right_size(field: Field, own: Mapping[str, np.ndarray], grid: tuple[int, ...]) -> None:
    """Raise ValueError unless a factor has one value for each block, and what scales it again one for all."""
    for part, shape in ((field, grid), *((part, (1, 1)) for part in field.inner)):
        if own[part.suffix].shape != shape:
            raise ValueError(f"{part.suffix} is a grid of {[*own[part.suffix].shape]}, and the blocks are {[*shape]}")


def _grid(field: Field, own: Mapping[str, np.ndarray]) -> Grid:
    return Grid(field, own[field.suffix], tuple(_grid(f, own) for f in field.inner))


def refused_blocks(q: QTensor, blocks: Blocks) -> np.ndarray:
    """bool, for each block of the scale: it cannot be quantized."""
    scale = q.scale.values if q.scale else np.ones_like(blocks.low)
    return ~(np.isfinite(blocks.low) & np.isfinite(blocks.high) & np.isfinite(scale) & (scale > 0))


def codes_of(values: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, encoding: Encoding, rule: Rule) -> np.ndarray:
    """The code of each value: value / scale, a true float32 division, (plus the zero point) rounded to the nearest code, held within the range."""
    quotient, element = values / scale, encoding.element
    if ELEMENTS[element].kind == "float":
        quotient = np.clip(quotient, np.float32(-encoding.peak), np.float32(encoding.peak))
        quotient = quotient if rule.signed_zero else quotient + np.float32(0)  # -0 + 0 is 0
        return _half_up(quotient) if rule.half_up else codec.encode(quotient, element)
    if zero is None:
        return codec.encode(quotient, element)
    return codec.encode((np.rint(quotient) if rule.rounds_first else quotient) + zero, element)


def _half_up(quotient: np.ndarray) -> np.ndarray:
    code = np.searchsorted(E2M1_MIDDLES, np.abs(np.nan_to_num(quotient)), side="right").astype(np.uint8)
    return code | (np.signbit(quotient).astype(np.uint8) << 3)
