"""The comparison of values: a stored weight of A, rectangle by rectangle, against each copy of it in B."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from weighbridge.encoding import kernels
from weighbridge.formats.element import contains
from weighbridge.formats.qtensor import Grid, QTensor
from weighbridge.formats.values import Scratch, above_240, address, values
from weighbridge.layouts.placement import Part, clip
from weighbridge.plan.cover import Fragment, Rect, cover, overlaps
from weighbridge.plan.plan import narrow
from weighbridge.plan.reader import Reader
from weighbridge.layouts.source import Bound, Source
from weighbridge.verify.bounds import Allowances, Relation, with_floor
from weighbridge.verify.grades import Grade

ROWS = 256  # rows that are decoded at a time; both sides of 3072 columns stay in the second cache


class Job(NamedTuple):
    """One stored weight of A. For each of its rectangles: the fragments of B that fill it once, and further copies."""

    bound: Bound
    pairs: tuple[tuple[Part, tuple[Fragment, ...], tuple[Fragment, ...]], ...]


def jobs_of(one: Source, two: Source) -> tuple[list[Job], list[str]]:
    """The work, and the names of A's weights that B does not hold in full.

    The first copy of a rectangle in A is compared with every copy in B, each further one in A with the first of B: so no copy on either
    side is left out, and the work does not grow with the product of their numbers.
    """
    jobs, lost = [], []
    seen: set[tuple[str, Rect]] = set()
    for bound in one.bound:
        pairs, left = [], []
        for part in bound.stored.placement.parts:
            rect, holders = (part.row, part.col, part.rows, part.cols), two.holders.get(part.weight, [])
            fragments, rest = cover(rect, holders)
            left += rest
            copies: list[Fragment] = []
            if len(holders) > 1 and (part.weight, rect) not in seen:
                copies = [f for f in overlaps(rect, holders) if f not in fragments]
            seen.add((part.weight, rect))
            pairs.append((part, tuple(fragments), tuple(copies)))
        if left:
            lost.append(bound.stored.name)
        else:
            jobs.append(Job(bound, tuple(pairs)))
    return jobs, lost


class Comparer:
    """Compares rectangles within the bounds of `relation`."""

    def __init__(self, one: Reader, two: Reader, relation: Relation) -> None:
        self.one, self.two, self.relation = one, two, relation
        self.allowances = {False: Allowances(one), True: Allowances(two)}  # by whether A was made; the scales of the other side confirm

    def grade(self, job: Job, scratch: Scratch) -> Grade:
        """The grade of one stored weight of A."""
        grade = Grade(job.bound.stored.name)
        for part, fragments, copies in job.pairs:
            whole = self.one.matrix(job.bound, part.lead)
            for number, fragment in enumerate((*fragments, *copies)):
                held = self.two.source.bound[fragment.source] if self.relation.chain.made_is_a else job.bound
                self._fragment(grade, whole, part, fragment, held.stored.placement.stacked, number < len(fragments), scratch)
        grade.settle()
        return grade

    def _fragment(self, grade: Grade, whole: QTensor, part: Part, fragment: Fragment, stacked: bool, counted: bool, scratch: Scratch) -> None:
        """All rows that `fragment` and `part` share, a band of rows at a time, in the stored axes of A."""
        piece = narrow(part, fragment)
        for start in range(0, piece.extent[0], ROWS):
            band = clip(piece, 0, piece.at_row + start, min(piece.at_row + piece.extent[0], piece.at_row + start + ROWS), piece.at_row + start)
            assert band is not None
            a = whole.cut(band.at_row, band.at_col, *band.extent)
            b = self.two.rect(fragment, band.row, band.col, band.rows, band.cols)
            self._band(grade, a, b.T if band.turned else b, band, stacked, counted, scratch)

    def _band(self, grade: Grade, a: QTensor, b: QTensor, band: Part, stacked: bool, counted: bool, scratch: Scratch) -> None:
        allowed = self.relation.bound(a.encoding, b.encoding, band.weight, band.turned, stacked)
        grade.bound = max(grade.bound, (allowed.relative, allowed.absolute))
        same = _same(a, b)
        if not same and grade.grade == "identical":
            grade.grade = "exact"
        if same and not counted:
            return
        left = right = scratch.array("a", a.shape, np.float32)
        values(a, left, scratch)
        if not same:
            right = scratch.array("b", b.shape, np.float32)
            values(b, right, scratch)
        made_is_a = self.relation.made_is_a(a.encoding, b.encoding)
        first, made = (b, a) if made_is_a else (a, b)
        grid = self.allowances[made_is_a].grid(first, made, allowed, band.weight)
        if a.encoding.dtype != b.encoding.dtype:
            allowed, grid = with_floor(allowed, grid, made.encoding)
        out = np.array([0, 0, 0, 0, 0, -1], np.float64)
        kernels.compare_f32(*address(left), *address(right), *a.shape, grid.scale.ctypes.data, grid.scale.shape[1], *grid.origin, *grid.block,
                            allowed.relative * (1 + 2.0**-10), allowed.absolute * (1 + 2.0**-10), out.ctypes.data)
        _add(grade, out, a.shape, band, left, right, counted)
        if not same and not a.encoding.quantized and a.encoding.dtype == b.encoding.dtype and not contains("f32", a.encoding.element):
            _digits(grade, a.codes_RC, b.codes_RC, band)


def _add(grade: Grade, out: np.ndarray, shape: tuple[int, int], band: Part, left: np.ndarray, right: np.ndarray, counted: bool) -> None:
    """A further copy adds no power: else a weight would count as often as it is held."""
    size = shape[0] * shape[1]
    if counted:
        grade.values += size
        grade.signal += float(out[0])
        grade.error += float(out[1]) if math.isfinite(out[1]) else math.inf
        grade.equal += int(out[3])
    grade.differs = grade.differs or int(out[3]) < size
    grade.max_relative = max(grade.max_relative, float(out[2])) if math.isfinite(out[2]) else math.inf
    if out[4] and not grade.first:
        row, col = divmod(int(out[5]), shape[1])
        grade.first = (f"{band.weight}: stored row {band.at_row + row}, column {band.at_col + col}: "
                       f"{left[row, col]:.9g} against {right[row, col]:.9g}")
    grade.violations += int(out[4])


def _digits(grade: Grade, left: np.ndarray, right: np.ndarray, band: Part) -> None:
    """F64 has digits that float32 has not: what differs there was in no comparison of values so far."""
    unlike = np.argwhere((left != right) & (left.astype(np.float32) == right.astype(np.float32)))
    if len(unlike):
        row, col = (int(i) for i in unlike[0])
        grade.differs = True
        grade.violations += len(unlike)
        grade.first = grade.first or (f"{band.weight}: stored row {band.at_row + row}, column {band.at_col + col}: "
                                      f"{left[row, col]:.17g} against {right[row, col]:.17g}")


def _same(a: QTensor, b: QTensor) -> bool:
    """Same codes under the same scales and zero points, with the same blocks."""
    if a.encoding.quantized != b.encoding.quantized or a.codes_RC.dtype != b.codes_RC.dtype or not _same_bytes(a.codes_RC, b.codes_RC):
        return False
    if not a.encoding.quantized:
        return a.encoding.dtype == b.encoding.dtype
    if {a.encoding.element, b.encoding.element} == {"e4m3", "e4m3fn"}:
        if above_240(a).any():
            return False  # the same byte is a number to one reader and infinity to the other
    elif a.encoding.element != b.encoding.element:
        return False
    return a.origin == b.origin and len(a.grids) == len(b.grids) and all(_same_grid(x, y) for x, y in zip(a.grids, b.grids, strict=True))


def _same_grid(a: Grid, b: Grid) -> bool:
    return a.field.role is b.field.role and a.field.block == b.field.block and np.array_equal(a.values, b.values)


def _same_bytes(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bits, NaN and signed zero included."""
    if a.flags.c_contiguous and b.flags.c_contiguous:
        return kernels.same_bytes(a.ctypes.data, b.ctypes.data, a.nbytes) == -1
    bits = f"u{a.itemsize}"
    return np.array_equal(a.view(bits), b.view(bits))
