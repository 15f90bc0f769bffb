"""Tensors beside the weights, and bytes of weights that belong to none: numbers of ranks, padding, what no inventory knows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor
from weighbridge.encoding import kernels
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Stored
from weighbridge.models import Inventory
from weighbridge.plan.cover import Rect, without
from weighbridge.plan.reader import Reader, field_values
from weighbridge.layouts.source import Bound, Source
from weighbridge.verify.grades import Beside, Fault

CHUNK = 64 << 20  # bytes that are compared at a time
PADDING = "scales of padding: they stand beside zeros and change no value (only NaN and infinity would, and these are looked for)"


def constants(reader: Reader, side: str) -> Beside:
    """Each tensor whose values the layout says, against what it says."""
    found = Beside()
    for stored, tensor in reader.source.constants:
        found.constants += 1
        wrong = _constant(reader, stored, tensor)
        if wrong:
            found.wrong.append(Fault(stored.name, side, "constant", wrong))
    return found


def _constant(reader: Reader, stored: Stored, tensor: Tensor) -> str:
    if tensor.dtype != "I32" or tensor.shape != stored.shape:
        return f"{tensor.dtype} {list(tensor.shape)}; the layout says I32 {list(stored.shape)}"
    held = np.frombuffer(reader.bytes_of(tensor).tobytes(), np.int32)
    wanted = np.asarray(stored.constant, np.int32)
    if np.array_equal(held, wanted):
        return ""
    place = int(np.flatnonzero(held != wanted)[0])
    return f"[{place}] is {held[place]}, the layout says {wanted[place]}"


def padding(reader: Reader, side: str) -> tuple[Beside, list[str]]:
    """Elements under no weight must be zero: a reader multiplies them. Also the names of tensors with scales that stand beside zeros alone."""
    found, idle = Beside(), []
    for bound in reader.source.bound:
        places = list(_uncovered(bound))
        slots = bound.stored.scale_slots is not None
        if bound.scale is not None and (places or slots):
            idle.append(bound.scale.name)
        if not places and not slots:
            continue
        found.padded += bool(places)
        wrong = _not_zero(reader, bound, places) or _not_finite(reader, bound)
        if wrong:
            found.wrong.append(Fault(bound.stored.name, side, "padding", wrong))
    return found, idle


def _uncovered(bound: Bound) -> Iterator[tuple[int, Rect]]:
    """(matrix, rectangle in stored axes) of what no weight fills."""
    placed = bound.stored.placement
    if sum(part.rows * part.cols for part in placed.parts) == placed.lead * placed.rows * placed.cols:
        return
    for lead in range(placed.lead):
        held = [(part.at_row, part.at_col, *part.extent) for part in placed.parts if part.lead == lead]
        for rect in without((0, 0, placed.rows, placed.cols), held):
            yield lead, rect


def _not_zero(reader: Reader, bound: Bound, places: list[tuple[int, Rect]]) -> str:
    for lead, (row, col, rows, cols) in places:
        codes = reader.matrix(bound, lead).codes_RC[row : row + rows, col : col + cols]
        if codes.dtype.kind == "u":  # the sign of a zero is no value
            codes = codes & np.array((1 << 8 * codes.itemsize - 1) - 1, codes.dtype)
        if np.any(codes != 0):
            down, right = (int(i) for i in np.argwhere(codes != 0)[0])
            return f"stored row {row + down}, column {col + right} of matrix {lead} belongs to no weight and is not zero"
    return ""


def _not_finite(reader: Reader, bound: Bound) -> str:
    if bound.scale is None:
        return ""
    assert bound.encoding.scale is not None
    scale = field_values(bound.encoding.scale, bound.scale, reader.bytes_of(bound.scale))
    count = int(np.count_nonzero(~np.isfinite(scale)))
    return f"{count:,} of its scales are NaN or infinite, and zero times these is NaN" if count else ""


def unexplained(one: Reader, two: Reader, names: list[str]) -> Beside:
    """Tensors that no weight of the model explains and that both sides hold under one name, dtype and shape: byte for byte."""
    found = Beside()
    for name in names:
        found.bytes += 1
        place = first_unequal(one, two, name)
        if place is not None:
            found.wrong.append(Fault(name, "B", "bytes", f"byte {place:,} differs; no weight of the model explains this tensor"))
    return found


def alike(a: Tensor | None, b: Tensor | None) -> bool:
    """Both there, with one dtype and one shape."""
    return a is not None and b is not None and (a.dtype, a.shape) == (b.dtype, b.shape)


def same_headers(a: Checkpoint, b: Checkpoint) -> bool:
    """The same names, each with the same dtype and shape."""
    return a.tensors.keys() == b.tensors.keys() and all(alike(tensor, b.tensors[name]) for name, tensor in a.tensors.items())


def first_unequal(one: Reader, two: Reader, name: str) -> int | None:
    """The first byte of a tensor that differs, or None."""
    left, right = (reader.bytes_of(reader.source.checkpoint.tensors[name]) for reader in (one, two))
    for start in range(0, len(left), CHUNK):
        size = min(CHUNK, len(left) - start)
        place = kernels.same_bytes(left[start:].ctypes.data, right[start:].ctypes.data, size)
        if place >= 0:
            return start + place
    return None


def bare(checkpoint: Checkpoint) -> Source:
    """A checkpoint without a layout: only its tensors are read, as bytes."""
    return Source(checkpoint, "", Options(), Inventory("", {}, {}), [], [])
