"""One block of a weight worked by hand: which one and why, eight weights of it, every number as the codec gives it."""

from __future__ import annotations

from typing import Any

import numpy as np

from weighbridge.encoding import codec
from weighbridge.errors import Usage
from weighbridge.formats import fast
from weighbridge.formats.qtensor import QTensor
from weighbridge.formats.scheme import filled
from weighbridge.formats.schemes import SCHEMES
from weighbridge.lessons.tensor_bits import fields, formula, packed, steps
from weighbridge.lessons.tensor_codes import BLOCK, CODED, Pass, half_step
from weighbridge.lessons.tensor_read import BAND, Form, Matrix, form_of

SHOWN = 8
OUTLIER = 4.0  # times the median: from there on a scale is an outlier
ABOVE = 0x78  # codes from here on are infinity or NaN in Neuron's E4M3


class Choice:
    """A block: `matrix` of the stack, row and column of its grid, and why it was chosen. `weight`: row and column in the matrix of the one that was asked for."""

    def __init__(self, matrix: int, row: int, col: int, why: str, weight: tuple[int, int] | None = None) -> None:
        self.matrix, self.row, self.col, self.why, self.weight = matrix, row, col, why, weight


def choose(found: Pass, at: tuple[int, int] | None) -> Choice:
    """The block of the weight at row and column `at` (rows count through all matrices of a stack), else the one that shows most."""
    m = found.matrix
    high, wide = m.block if not m.plain else BLOCK
    if at is not None:
        if not (0 <= at[0] < m.lead * m.rows and 0 <= at[1] < m.cols):
            raise Usage(f"there is no weight {at[0]},{at[1]}: there are {m.lead * m.rows:,} rows and {m.cols:,} columns, counted from zero", "--at", "write --at 0,0")
        matrix, row = divmod(at[0], m.rows)
        group = int(m.groups(at[0], 1)[0]) if not m.plain else row // high
        return Choice(matrix, group, at[1] // wide, "the weight that was asked for lies in it", (row, at[1]))
    if m.plain:
        matrix, row, col = m.found.corner
        whole = m.lead == 1 and m.rows <= high and m.cols <= wide
        return Choice(matrix, row // high, col // wide, "it is all there is" if whole else "the first tile of 128x128, as a block of FP8 would be")
    row, col, why = _telling(found)
    return Choice(*divmod(int(found.rows[row]), m.grid_rows), col, why)


def _telling(found: Pass) -> tuple[int, int, str]:
    """Row among those that were looked at, column, and why."""
    usable = found.usable & (found.amax > 0)
    inside = found.matrix.found.corner
    if not usable.any():
        return 0, 0, "the first block: none has a usable scale and a code other than zero"
    if any(inside):
        m = found.matrix
        wanted = inside[0] * m.grid_rows + int(m.groups(inside[1], 1)[0])
        if wanted in found.rows:
            return int(np.searchsorted(found.rows, wanted)), inside[2] // m.block[1], "the first block of what the name stands for"
    scale = np.where(usable, found.scale, 0)
    ratio = float(scale.max()) / float(np.median(found.scale[usable]))
    if usable.sum() > 1 and ratio >= OUTLIER:
        return *_first(scale), f"its scale is the largest, {ratio:.3g} times the median"
    inexact = np.where(usable, found.by_block["inexact"], 0)
    if inexact.max() > 0:
        told = "codes that halving rounds" if found.matrix.form.fmt == "e4m3fn" else "codes that change on the way back"
        return *_first(inexact), f"it has the most {told}: {int(inexact.max()):,}"
    return *_first(scale), "its scale is the largest"


def _first(array: np.ndarray) -> tuple[int, int]:
    row, col = np.unravel_index(int(array.argmax()), array.shape)
    return int(row), int(col)


class Region:
    """The stored elements of the chosen block: `numbers` are its rows, `shown` those that were read (of a block that is too large, some of them)."""

    def __init__(self, found: Pass, choice: Choice) -> None:
        m = self.matrix = found.matrix
        self.choice = choice
        high, wide = m.block if not m.plain else BLOCK
        self.left = choice.col * wide
        self.cols = min(wide, m.cols - self.left)
        self.numbers = np.arange(choice.row * high, min((choice.row + 1) * high, m.rows)) if m.order is None else np.flatnonzero(m.order == choice.row)
        held = max(1, min(len(self.numbers), 4 * BAND // max(1, m.cols)))
        asked = int(np.searchsorted(self.numbers, choice.weight[0])) if choice.weight else 0
        down = max(0, asked - held + 1)
        self.shown = self.numbers[down : down + held]
        self.asked = (asked - down, choice.weight[1] - self.left) if choice.weight else None
        self.raw = self._raw()
        self.scale: np.float32 | None = None
        self.zero: np.float32 | None = None
        if m.scaled and len(self.shown):
            scale, zero = m.factors_at(m.rows_of(self.flat(0), 1), np.zeros(1, np.int64))
            self.scale, self.zero = scale[0, choice.col], None if zero is None else zero[0, choice.col]
        self.largest = self._largest(found, choice) if not m.plain else 0.0

    def flat(self, place: int) -> int:
        """The flat row of one of `shown`."""
        return self.choice.matrix * self.matrix.rows + int(self.shown[place])

    def _raw(self) -> np.ndarray:
        m, count = self.matrix, len(self.shown)
        if m.order is None:
            raw = m.raw(self.flat(0), count)
        else:  # rows of one group lie apart
            raw = np.concatenate([m.raw(self.flat(place), 1) for place in range(count)]) if count else np.zeros((0, m.cols), np.uint8)
        return np.ascontiguousarray(raw[:, self.left : self.left + self.cols])

    def _largest(self, found: Pass, choice: Choice) -> float:
        """The largest magnitude of a code's value (less the zero point) in the block, among the rows that were read here or looked at before."""
        number = choice.matrix * self.matrix.grid_rows + choice.row
        place = int(np.searchsorted(found.rows, number))
        seen = float(found.amax[place, choice.col]) if place < len(found.rows) and found.rows[place] == number else 0.0
        table = self.matrix.form.table
        assert table is not None
        value = table if self.zero is None else table - self.zero
        return max(seen, float(np.where(np.isfinite(value), np.abs(value), 0)[self.raw].max(initial=0)))


def work(found: Pass, choice: Choice) -> dict[str, Any]:
    """The chosen block as data: where it is, its amax and scale, its weights. `picked_from` are the rows that its weights come from."""
    m = found.matrix
    region = Region(found, choice)
    high = m.grid_rows if not m.plain else -(-m.rows // BLOCK[0])
    numbers, shown = region.numbers, region.shown
    block = {"at": [choice.matrix * high + choice.row, choice.col], "matrix": choice.matrix if m.lead > 1 else None, "why": choice.why,
             "rows": _ends(numbers), "columns": [region.left, region.left + region.cols], "picked_from": _ends(shown),
             "rows_apart": numbers.tolist() if m.order is not None else None}
    return block | (_floats(m, region) if m.plain else _codes(m, region))


def _ends(numbers: np.ndarray) -> list[int]:
    return [int(numbers[0]), int(numbers[-1]) + 1] if len(numbers) else [0, 0]


def _codes(m: Matrix, region: Region) -> dict[str, Any]:
    code, top = region.raw, region.largest
    out: dict[str, Any] = {"largest_code_value": top, "max": m.form.max, "scale": None, "zero": None, "amax": None, "full": None, "steps": []}
    if region.scale is not None:
        scale = float(region.scale)
        low, high = m.form.ends
        most = m.form.max if region.zero is None else max(abs(low - region.zero), abs(high - region.zero))
        with np.errstate(all="ignore"):
            out |= {"scale": scale, "zero": None if region.zero is None else float(region.zero), "amax": float(np.float32(top) * region.scale),
                    "full": float(np.float32(most) * region.scale), "steps": steps(m, region.flat(0), region.left)}
    picks = _pick(m.form, code, region.asked, region.zero)
    out["weights"] = [_one(m, int(code[i, j]), region) | {"row": int(region.shown[i]), "column": region.left + j, "why": why,
                                                         "place": packed(m, region.flat(i), region.left + j)} for (i, j), why in picks]
    return out


def _pick(form: Form, code: np.ndarray, asked: tuple[int, int] | None, zero: np.float32 | None = None) -> list[tuple[tuple[int, int], str]]:
    """Positions that show something, each once, and why; then the first ones of the block."""
    table = form.table
    assert table is not None
    value = table.astype(np.float64)[code]  # float32 is too coarse for the differences below
    value = value if zero is None else value - float(zero)
    known = np.isfinite(value)
    size = np.where(known, np.abs(value), -1)
    middle = float(np.median(size[known])) if known.any() else 0
    above = np.isfinite(value) & (size > 240) if form.fmt == "e4m3fn" else np.zeros(code.shape, bool)
    wanted: list[tuple[str, np.ndarray]] = [
        ("NaN or infinity", np.where(~known, 1.0, -1)),
        ("the largest", np.where(known, size, -1)),
        ("smallest above 240", np.where(above & (size < size.max(initial=0)), 1000 - size, -1)),
        ("odd below 0x10: halving rounds it", np.where(codec.halve_is_inexact(code), size + 1, -1) if form.fmt == "e4m3fn" else np.full(code.shape, -1)),
        ("most lost by 448/240", _legacy_loss(code) if form.fmt == "e4m3fn" else np.full(code.shape, -1)),
        ("the median", np.where(known & (size > 0), 1e9 - np.abs(size - middle), -1)),
        ("the smallest but zero", np.where(known & (size > 0), 1e9 - size, -1)),
        ("a zero", np.where(size == 0, 1.0, -1)),
        ("the most negative", np.where(known & (value < 0), size, -1)),
    ]
    chosen: dict[tuple[int, int], str] = {asked: "the one that was asked for"} if asked else {}
    seen: set[int] = {int(code[asked])} if asked else set()
    for why, rank in wanted:
        if rank.size and rank.max() >= 0 and len(chosen) < SHOWN:
            place = _first(rank)
            if int(code[place]) not in seen:
                chosen[place] = why
                seen.add(int(code[place]))
    for flat in range(code.size):
        if len(chosen) >= SHOWN or len(seen) == 1 and bool((code == code.flat[0]).all()):
            break
        chosen.setdefault((flat // code.shape[1], flat % code.shape[1]), "the next in order")
    return list(chosen.items())


def _legacy_loss(code: np.ndarray) -> np.ndarray:
    """Share of its value that 448/240 takes from each code; codes below 0x10 are left out, as they lose by any way."""
    table = codec.decode_table("e4m3fn").astype(np.float64)
    with np.errstate(all="ignore"):
        lost = np.abs(table[codec.LEGACY] * float(np.float32(codec.LEGACY_FACTOR)) - table) / np.abs(table)
    return np.where(np.isfinite(lost) & ((np.arange(256) & 0x7F) >= 0x10), lost, -1)[code]


def _stored(form: Form, code: int, table: np.ndarray, scale: np.float32 | None, zero: np.float32 | None = None) -> dict[str, Any]:
    """A code with its bits, its value, the zero point, the scale and the weight, rounded to float32 after each step."""
    digits = -(-sum(form.fields) // 4)
    out = {"code": f"0x{code:0{digits}X}", "bits": fields(form, code), "value": float(table[code]), "formula": formula(form, code, float(table[code])),
           "zero": None, "less_zero": None, "scale": None, "weight": None}
    if scale is not None:
        less = table[code] if zero is None else table[code] - zero
        with np.errstate(all="ignore"):
            out |= {"scale": float(scale), "weight": float(less * scale)}
        if zero is not None:
            out |= {"zero": float(zero), "less_zero": float(less)}
    return out


def _one(m: Matrix, code: int, region: Region) -> dict[str, Any]:
    """One weight as stored, as the other convention holds it, and what other ways make of it."""
    form, table, scale, zero = m.form, m.form.table, region.scale, region.zero
    assert table is not None
    own = _stored(form, code, table, scale, zero)
    out: dict[str, Any] = {"stored": own, "step": None}
    with np.errstate(all="ignore"):
        if scale is not None:
            less = table[code] if zero is None else table[code] - zero
            out["step"] = float(np.float32(2 * half_step(form)[code]) * scale)
            out["reciprocal"] = float(less * (np.float32(1) / scale))
            out["bf16"] = float(codec.from_bf16(codec.to_bf16(np.array([own["weight"]], np.float32)))[0])
    if form.fmt in CODED:
        out |= _conventions(m, code, scale)
    return out


def _conventions(m: Matrix, code: int, scale: np.float32 | None) -> dict[str, Any]:
    """The other convention beside the stored one: halved for Neuron, or doubled back for OCP e4m3fn."""
    form = m.form
    neuron, ocp = codec.decode_table("e4m3"), codec.decode_table("e4m3fn")
    with np.errstate(all="ignore"):
        if form.fmt == "e4m3":
            over = bool(codec.double_overflows(np.array([code], np.uint8))[0])
            other = _stored(_ocp(form), int(codec.DOUBLE[code]), ocp, None if scale is None else scale * np.float32(0.5))
            return {"other": other, "overflows": over, "difference": _minus(other, _stored(form, code, neuron, scale)), "raw": _reads(ocp[code])}
        half = int(codec.HALVE[code])
        other = _stored(form, half, neuron, None if scale is None else scale * np.float32(2))
        old = int(codec.LEGACY[code])
        legacy = _stored(form, old, ocp, None if scale is None else codec.legacy_scale(np.array(scale))[()])
    own = _stored(form, code, ocp, scale)
    return {"other": other, "difference": _minus(other, own), "legacy": legacy, "legacy_difference": _minus(legacy, own), "raw": _reads(neuron[code])}


def _ocp(form: Form) -> Form:
    return form_of("e4m3fn")


def _minus(other: dict[str, Any], own: dict[str, Any]) -> float | None:
    return None if own["weight"] is None else other["weight"] - own["weight"]


def _reads(value: np.float32) -> str:
    """What the other reader makes of the byte as it is."""
    return "NaN" if np.isnan(value) else ("-infinity" if value < 0 else "infinity") if np.isinf(value) else f"{float(value):g}"


def _floats(m: Matrix, region: Region) -> dict[str, Any]:
    """A tile of a plain tensor, and what FP8 would make of it: quantized by the specification itself."""
    value = QTensor(region.raw, m.encoding).decode()
    known = np.isfinite(value)
    amax = float(np.abs(value[known]).max()) if known.any() else None
    out: dict[str, Any] = {"amax": amax, "scale": None, "weights": [], "finite": bool(known.all())}
    quantized = {name: _quantized(value, scheme) for name, scheme in (("block-448", "fp8-block"), ("block-240", "neuron-fp8"))} if value.size else {}
    out["scales"] = {name: float(scale[0, 0]) for name, (_, scale) in quantized.items()}
    bits = region.raw.view(f"u{region.raw.itemsize}")
    for (i, j), why in _pick_floats(value, region.asked):
        own = int(bits[i, j])
        row = {"row": int(region.shown[i]), "column": region.left + j, "why": why, "bf16": float(codec.from_bf16(codec.to_bf16(value[i : i + 1, j]))[0]),
               "stored": {"code": f"0x{own:0{2 * region.raw.itemsize}X}", "bits": fields(m.form, own), "weight": float(value[i, j]), "value": float(value[i, j]),
                          "scale": None, "formula": formula(m.form, own, float(region.raw[i, j] if m.form.fmt == "f64" else value[i, j]))}}
        for name, (codes, scale) in quantized.items():
            row[name] = _stored(form_of("e4m3fn"), int(codes[i, j]), codec.decode_table("e4m3fn"), scale[0, 0])
        out["weights"].append(row)
    return out


def _quantized(value: np.ndarray, scheme: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of one block, by the rule of a scheme."""
    made = fast.quantize_stored(value, filled(SCHEMES[scheme], BLOCK))
    return made.codes, made.grids[0].values


def _pick_floats(value: np.ndarray, asked: tuple[int, int] | None) -> list[tuple[tuple[int, int], str]]:
    known = np.isfinite(value)
    size = np.where(known, np.abs(value), -1).astype(np.float64)
    middle = float(np.median(size[known])) if known.any() else 0.0
    scale = max(float(size.max(initial=0)), 1e-300)
    wanted = [("NaN or infinity", np.where(~known, 1.0, -1)), ("the largest", size), ("the most negative", np.where(value < 0, size, -1)),
              ("the median", np.where(known, 1 - np.abs(size - middle) / scale, -1)), ("the smallest but zero", np.where(size > 0, 1 - size / scale, -1)),
              ("a zero", np.where(size == 0, 1.0, -1))]
    chosen: dict[tuple[int, int], str] = {asked: "the one that was asked for"} if asked else {}
    for why, rank in wanted:
        if rank.size and rank.max() >= 0:
            chosen.setdefault(_first(rank), why)
    for flat in range(value.size):
        if len(chosen) >= SHOWN or chosen and not known.all() and not known.any() or (value == value.flat[0]).all():
            break
        chosen.setdefault((flat // value.shape[1], flat % value.shape[1]), "the next in order")
    return list(chosen.items())
