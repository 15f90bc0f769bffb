"""What one pass over a weight says, as plain data: codes, scales, the two conventions, costs, and maps of the grid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from weighbridge.encoding import codec
from weighbridge.lessons.tensor_block import ABOVE, OUTLIER
from weighbridge.lessons.tensor_codes import CODED, Pass
from weighbridge.lessons.tensor_read import SCALES

MAP = (48, 80)  # rows and columns of a map at most; a cell of a larger grid stands for several blocks
NAMED = 5  # outliers that are named


def codes(seen: Pass) -> dict[str, Any]:
    """The histogram of codes, and what stands out in it."""
    form, counts = seen.matrix.form, seen.counts
    table = form.table
    assert table is not None
    size = np.abs(table)
    subnormal = np.zeros(len(table), bool)
    if len(form.fields) == 3:
        subnormal = (((np.arange(len(table)) >> form.fields[2]) & ((1 << form.fields[1]) - 1)) == 0) & (size > 0)
    low, high = form.ends
    full = (table == low) | (table == high) if seen.matrix.zero else (size >= form.max) & np.isfinite(size)
    share = {"subnormal": subnormal, "saturated": full, "nan": np.isnan(table), "infinite": np.isinf(table)}
    return {"counts": counts.tolist(), "values": [float(v) if np.isfinite(v) else None for v in table], "total": int(counts.sum()),
            "possible": len(counts), "used": int((counts > 0).sum()), "never": [int(c) for c in np.flatnonzero(counts == 0)], "zero": seen.zeros,
            **{name: int(counts[mask].sum()) for name, mask in share.items()}}


def exponents(seen: Pass) -> dict[str, Any]:
    """For plain floats: how many values lie in each power of two, and the values that are no numbers."""
    form = seen.matrix.form
    fields = np.flatnonzero(seen.counts)
    inner = [int(f) for f in fields if 0 < f < len(seen.counts) - 1]
    rows = [{"power": f - form.bias, "count": int(seen.counts[f])} for f in (range(inner[0], inner[-1] + 1) if inner else ())]
    return {"total": int(seen.counts.sum()), "powers": rows, **seen.plain}


def scales(seen: Pass) -> dict[str, Any]:
    """Least, median and largest scale, those that are no scale, and outliers by name."""
    grid, rows = _grid(seen)
    usable = np.isfinite(grid) & (grid > 0)
    good = grid[usable]
    with np.errstate(invalid="ignore"):
        odd = {"nan": int(np.isnan(grid).sum()), "infinite": int(np.isinf(grid).sum()), "zero": int((grid == 0).sum()), "negative": int((grid < 0).sum())}
    told: dict[str, Any] = {"read": grid.size, "of": seen.matrix.lead * seen.matrix.grid_rows * seen.matrix.grid_cols, **odd, "least": None, "median": None,
                            "largest": None, "powers_of_two": False, "outliers": 0, "named": []}
    if good.size:
        middle = float(np.median(good))
        far = usable & ((grid >= OUTLIER * middle) | (grid <= middle / OUTLIER))
        order = np.argsort(-np.abs(np.log(np.where(far, grid, middle) / middle)), axis=None, kind="stable")[:NAMED]
        named = [np.unravel_index(int(i), grid.shape) for i in order if far.ravel()[i]]
        told |= {"least": float(good.min()), "median": middle, "largest": float(good.max()), "powers_of_two": bool((np.frexp(good)[0] == 0.5).all()),
                 "outliers": int(far.sum()), "named": [{"at": [int(rows[r]), int(c)], "scale": float(grid[r, c]), "ratio": float(grid[r, c]) / middle} for r, c in named]}
    full = seen.ends.all(-1) if seen.matrix.zero else seen.amax >= seen.matrix.form.max
    return told | {"blocks": int(seen.amax.size), "full_blocks": int(full.sum()), "empty_blocks": int((seen.amax == 0).sum())}


def _grid(seen: Pass) -> tuple[np.ndarray, np.ndarray]:
    """All scales where they are few enough, else those of the rows that were looked at; and the number of each row."""
    m = seen.matrix
    total = m.lead * m.grid_rows
    if total * m.grid_cols <= SCALES and (m.near or total * m.grid_cols <= SCALES // 16):
        return m.all_scales(), np.arange(total)
    return seen.scale, seen.rows


def conventions(seen: Pass, halved: bool) -> dict[str, Any] | None:
    """OCP e4m3fn and Neuron's E4M3 over the same codes: how many mean the same, how many do not, what halving costs."""
    fmt, counts = seen.matrix.form.fmt, seen.counts
    if fmt not in CODED:
        return None
    code = np.arange(256)
    magnitude = code & 0x7F
    infinite, above = int(counts[magnitude == ABOVE].sum()), int(counts[magnitude >= ABOVE].sum())
    told = {"stored": fmt, "total": int(counts.sum()), "above": above, "infinite": infinite, "nan": above - infinite}
    if fmt == "e4m3fn":
        after = np.zeros(256, np.int64)
        np.add.at(after, codec.HALVE, counts)
        known = magnitude != 0x7F
        left = code[(after > 0) & known]
        inexact = int(counts[codec.halve_is_inexact(code)].sum())
        return told | {"inexact": inexact, "equal": int(counts[known].sum()) - inexact, "largest_after": float(np.abs(codec.decode_table("e4m3")[left]).max(initial=0))}
    over = int(counts[codec.double_overflows(code)].sum())
    return told | {"halved": halved, "overflow": over, "equal": int(counts.sum()) - over}


def costs(seen: Pass) -> list[dict[str, Any]]:
    """What each way costs over all that was looked at: relative error, signal to error in dB, values that change."""
    rows = []
    for way in seen.ways:
        signal, error, changed = seen.cost(way)
        rows.append({"way": way.name, "says": way.says, "changed": changed, "of": seen.matrix.looked, **_error(signal, error)})
    if seen.matrix.scaled and seen.usable.any():
        rows.append(_reciprocal(seen))
    return rows


def _error(signal: float, error: float) -> dict[str, float | None]:
    """`relative` is the root of error power over signal power; without signal there is none. `sqnr_db` is null where nothing is lost."""
    relative = math.sqrt(error / signal) if signal > 0 else None
    return {"relative": relative, "sqnr_db": 10 * math.log10(signal / error) if signal > 0 and error > 0 else None}


def _reciprocal(seen: Pass) -> dict[str, Any]:
    """What 1/scale in the place of the scale makes of the tensor: a multiplier taken for a divisor."""
    scale = np.where(seen.usable, seen.scale, 1).astype(np.float64)
    power = np.where(seen.usable, seen.by_block["signal"], 0)
    signal, error = float((power * scale**2).sum()), float((power * (1 / scale - scale) ** 2).sum())
    middle = float(np.median(seen.scale[seen.usable]))
    return {"way": "reciprocal", "says": "codes as they are, 1/scale taken for the scale: what notes say that read _inv as an instruction",
            "changed": int(seen.codes_but_zero), "of": seen.matrix.looked, "factor": 1 / middle**2, **_error(signal, error)}


def maps(seen: Pass, at: list[int] | None) -> dict[str, Any]:
    """Maps of the grid: scale (the largest in a cell), relative error of the main step, and the bound of quantization itself.

    `first` has the number of the grid row with which each row of a map begins, `worked` the cell of the block `at`.
    """
    grid, rows = _grid(seen)
    out: dict[str, Any] = {"scale": _largest(seen, np.where(np.isfinite(grid) & (grid > 0), grid, np.nan), rows)}
    out["scale"]["worked"] = _cell_of(rows, out["scale"]["step"], at)
    square = np.where(seen.usable, seen.scale, 0).astype(np.float64) ** 2
    signal = seen.by_block["signal"] * square
    main = next((way for way in seen.ways if way.codes is not None), None)
    if main is not None:
        out["error"] = {"way": main.name, **_relative(seen, seen.by_block[main.name] * square, signal)}
    out["bound"] = _relative(seen, seen.by_block["bound"] * square, signal)
    return out


class _Cells:
    """The cells of a map of `rows` (numbers of grid rows that are known) and `columns`, and the cell of each of them."""

    def __init__(self, seen: Pass, rows: np.ndarray, columns: int) -> None:
        step = -(-len(rows) // MAP[0]), -(-columns // MAP[1])
        self.shape = -(-len(rows) // step[0]), -(-columns // step[1])
        self.index = np.arange(len(rows))[:, None] // step[0], np.arange(columns)[None, :] // step[1]
        total = seen.matrix.lead * seen.matrix.grid_rows
        self.head = {"step": list(step), "grid": [total, columns], "sampled": len(rows) < total, "first": rows[:: step[0]].tolist()}


def _cell_of(rows: np.ndarray, step: list[int], at: list[int] | None) -> list[int] | None:
    place = int(np.searchsorted(rows, at[0])) if at is not None else len(rows)
    return [place // step[0], at[1] // step[1]] if at is not None and place < len(rows) and rows[place] == at[0] else None


def _largest(seen: Pass, values: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    made = _Cells(seen, rows, values.shape[1])
    cells = np.full(made.shape, -np.inf)
    np.maximum.at(cells, made.index, np.nan_to_num(values.astype(np.float64), nan=-np.inf))
    return {**made.head, "cells": _plain(np.where(np.isfinite(cells), cells, np.nan))}


def _relative(seen: Pass, error: np.ndarray, signal: np.ndarray) -> dict[str, Any]:
    made = _Cells(seen, seen.rows, error.shape[1])
    sums = np.zeros((2, *made.shape))
    for place, power in enumerate((error, signal)):
        np.add.at(sums[place], made.index, power)
    with np.errstate(all="ignore"):
        cells = np.sqrt(sums[0] / sums[1])
    return {**made.head, "cells": _plain(np.where(sums[1] > 0, cells, np.nan))}


def _plain(cells: np.ndarray) -> list[list[float | None]]:
    return [[None if math.isnan(v) else v for v in row] for row in cells.tolist()]
