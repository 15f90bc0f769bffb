"""`verify A B`: every stored weight of A against what B holds of it, in A's own layout.

A plan from B to A's layout says which rectangles of B make up each tensor of A; both sides are decoded
rectangle by rectangle and compared. Nothing is written and memory does not grow with the model.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.convert.apply import Scratch, address, values
from weighbridge.convert.run import thread_count
from weighbridge.encoding import kernels
from weighbridge.encoding.qtensor import QTensor
from weighbridge.errors import Problem, Refused
from weighbridge.layouts.placement import Part, clip
from weighbridge.plan.bind import Bound, Source, bind
from weighbridge.plan.cover import Fragment, cover
from weighbridge.plan.plan import narrow
from weighbridge.plan.reader import Reader
from weighbridge.verify.bounds import Relation, relate

ROWS = 256  # rows that are decoded at a time; both sides of 3072 columns stay in the second cache
Progress = Callable[[int, int], None]


@dataclass
class Grade:
    """What one stored weight of A came to. Sums are powers; `bound` is the (relative, absolute) that it must keep."""

    name: str
    grade: str = "identical"
    values: int = 0
    signal: float = 0.0
    error: float = 0.0
    max_relative: float = 0.0
    equal: int = 0
    violations: int = 0
    bound: tuple[float, float] = (0.0, 0.0)
    first: str = ""

    @property
    def sqnr_db(self) -> float | None:
        good = self.error > 0 and self.signal > 0 and math.isfinite(self.error)
        return round(10 * math.log10(self.signal / self.error), 2) if good else None

    def row(self) -> dict[str, Any]:
        relative = self.max_relative if math.isfinite(self.max_relative) else None
        return {"name": self.name, "grade": self.grade, "sqnr_db": self.sqnr_db, "max_relative_error": relative,
                "equal_share": round(self.equal / self.values, 6) if self.values else 1.0,
                "bound": {"relative": self.bound[0], "absolute_of_scale": self.bound[1]}, "first": self.first or None}


@dataclass
class Report:
    """All grades, and what one side lacks."""

    a: str
    b: str
    layouts: tuple[str, str]
    grades: list[Grade] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    sampled: int = 0

    @property
    def ok(self) -> bool:
        return not self.missing and not self.surplus and all(g.grade != "wrong" for g in self.grades)

    def worst(self) -> Grade | None:
        order = {"wrong": 0, "bounded": 1, "exact": 2, "identical": 3}
        return min(self.grades, key=lambda g: (order[g.grade], g.sqnr_db if g.sqnr_db is not None else -math.inf), default=None)

    def document(self) -> dict[str, Any]:
        """The JSON of the contract (`weighbridge.verify/1`)."""
        counts = {name: sum(g.grade == name for g in self.grades) for name in ("identical", "exact", "bounded", "wrong")}
        signal, error = sum(g.signal for g in self.grades), sum(g.error for g in self.grades)
        total = round(10 * math.log10(signal / error), 2) if 0 < error < math.inf and signal > 0 else None
        worst = self.worst()
        return {
            "a": self.a, "b": self.b, "layouts": list(self.layouts), "weights": len(self.grades), "grades": counts,
            "missing": self.missing, "surplus": self.surplus, "worst": worst.row() if worst else None, "total_sqnr_db": total,
            "inexact": [g.row() for g in self.grades if g.grade in ("bounded", "wrong")][:1000], "sampled": self.sampled, "ok": self.ok,
        }


class _Job(NamedTuple):
    """One stored weight of A, and for each of its rectangles the fragments of B."""

    bound: Bound
    pairs: tuple[tuple[int, Part, tuple[Fragment, ...]], ...]


def verify(a: Checkpoint, b: Checkpoint, *, sample: int = 0, seed: int = 0, progress: Progress | None = None) -> Report:
    """Grade B against A. Raises `Refused` where one of them cannot be read as a model at all."""
    one, two = bind(a), bind(b)
    report = Report(a.label, b.label, (one.layout, two.layout), sampled=sample)
    fatal = _unreadable(one) + _unreadable(two)
    if fatal:
        raise Refused(fatal)
    report.surplus = [p.where for p in two.problems if p.code in ("surplus-tensor", "scale-without-weight", "scale-beside-float")]
    report.surplus += [p.where for p in one.problems if p.code == "surplus-tensor"]
    jobs = _jobs(one, two, report)
    if sample and sample < len(jobs):
        jobs = sorted(random.Random(seed).sample(jobs, sample), key=lambda j: j.bound.stored.name)
    comparer = _Comparer(Reader(one), Reader(two), relate(a, b))
    done, total = 0, sum(j.bound.weight.nbytes for j in jobs)
    with comparer.one.unchanged(), comparer.two.unchanged(), ThreadPoolExecutor(thread_count()) as pool:
        for job, grade in zip(jobs, pool.map(comparer.grade, jobs), strict=True):
            report.grades.append(grade)
            done += job.bound.weight.nbytes
            if progress:
                progress(done, total)
    return report


def _unreadable(source: Source) -> list[Problem]:
    """What keeps a checkpoint from being compared; missing and surplus weights are findings, not this."""
    found = ("missing-tensor", "surplus-tensor", "scale-without-weight", "weight-without-scale", "surplus-file", "index-names-absent",
             "index-lacks", "index-wrong-file", "scale-beside-float")
    return [p for p in source.problems if p.code not in found]


def _jobs(one: Source, two: Source, report: Report) -> list[_Job]:
    jobs, lost = [], []
    for bound in one.bound:
        pairs, left = [], []
        for part in bound.stored.placement.parts:
            fragments, rest = cover((part.row, part.col, part.rows, part.cols), two.holders.get(part.weight, []))
            left += rest
            pairs.append((part.lead, part, tuple(fragments)))
        if left:
            lost.append(bound.stored.name)
        else:
            jobs.append(_Job(bound, tuple(pairs)))
    stated = [p.where for p in (*one.problems, *two.problems) if p.code in ("missing-tensor", "weight-without-scale")]
    report.missing = stated or lost  # the tensors that are not there, or else the weights that no tensor fills
    return jobs


class _Comparer:
    """Compares rectangles; one Scratch for each thread."""

    def __init__(self, one: Reader, two: Reader, relation: Relation) -> None:
        self.one, self.two, self.relation = one, two, relation
        self.local = threading.local()

    def grade(self, job: _Job) -> Grade:
        """The grade of one stored weight of A."""
        grade = Grade(job.bound.stored.name)
        if not hasattr(self.local, "scratch"):
            self.local.scratch = Scratch()
        for lead, part, fragments in job.pairs:
            whole = self.one.matrix(job.bound, lead)
            for fragment in fragments:
                held = job.bound if not self.relation.made_is_a else self.two.source.bound[fragment.source]
                self._fragment(grade, whole, part, fragment, held.stored.placement.stacked)
        if grade.violations:
            grade.grade = "wrong"
        elif grade.error > 0 or grade.equal < grade.values:
            grade.grade = "bounded"
        return grade

    def _fragment(self, grade: Grade, whole: QTensor, part: Part, fragment: Fragment, stacked: bool) -> None:
        """All rows that `fragment` and `part` share, a band of rows at a time, in the stored axes of A."""
        piece = narrow(part, fragment)
        for start in range(0, piece.extent[0], ROWS):
            band = clip(piece, 0, piece.at_row + start, min(piece.at_row + piece.extent[0], piece.at_row + start + ROWS), piece.at_row + start)
            assert band is not None
            a = whole.cut(band.at_row, band.at_col, *band.extent)
            b = self.two.rect(fragment, band.row, band.col, band.rows, band.cols)
            self._band(grade, a, b.T if band.turned else b, band, stacked)

    def _band(self, grade: Grade, a: QTensor, b: QTensor, band: Part, stacked: bool) -> None:
        bound = self.relation.bound(a.encoding, b.encoding, stacked)
        grade.bound = max(grade.bound, bound)
        same = _same(a, b)
        if not same:
            grade.grade = "exact"
        scratch: Scratch = self.local.scratch
        left = right = scratch.array("a", a.shape, np.float32)
        values(a, left, scratch)
        if not same:
            right = scratch.array("b", b.shape, np.float32)
            values(b, right, scratch)
        out = np.array([0, 0, 0, 0, 0, -1], np.float64)
        owner = self._owner(a, b)
        grid = np.ascontiguousarray(owner.scale_RbCb if owner.scale_RbCb is not None else np.ones((1, 1), np.float32))
        block = owner.encoding.block if owner.encoding.block and owner.scale_RbCb is not None else (1 << 30, 1 << 30)
        kernels.compare_f32(*address(left), *address(right), *a.shape, grid.ctypes.data, grid.shape[1], *owner.origin, *block,
                            bound[0] * (1 + 2.0**-10), bound[1] * (1 + 2.0**-10), out.ctypes.data)
        self._add(grade, out, a.shape, band, left, right)

    def _owner(self, a: QTensor, b: QTensor) -> QTensor:
        """The side whose scale the absolute bound is counted in: the one that was made."""
        if self.relation.hops or not (a.encoding.quantized and b.encoding.quantized):
            return a if self.relation.made_is_a else b
        return a if a.encoding.peak < b.encoding.peak else b

    def _add(self, grade: Grade, out: np.ndarray, shape: tuple[int, int], band: Part, left: np.ndarray, right: np.ndarray) -> None:
        grade.values += shape[0] * shape[1]
        grade.signal += float(out[0])
        grade.error += float(out[1]) if math.isfinite(out[1]) else math.inf
        grade.max_relative = max(grade.max_relative, float(out[2])) if math.isfinite(out[2]) else math.inf
        grade.equal += int(out[3])
        if out[4] and not grade.first:
            row, col = divmod(int(out[5]), shape[1])
            grade.first = (f"{band.weight}: stored row {band.at_row + row}, column {band.at_col + col}: "
                           f"{left[row, col]:.9g} against {right[row, col]:.9g}")
        grade.violations += int(out[4])


def _same(a: QTensor, b: QTensor) -> bool:
    """Same codes and scales, in the same encoding and with the same blocks."""
    if a.encoding != b.encoding and (a.encoding.dtype != b.encoding.dtype or a.encoding.block != b.encoding.block):
        return False
    if not _same_bytes(a.codes_RC, b.codes_RC):
        return False
    if a.scale_RbCb is None or b.scale_RbCb is None:
        return a.scale_RbCb is b.scale_RbCb
    return a.origin == b.origin and np.array_equal(a.scale_RbCb, b.scale_RbCb)


def _same_bytes(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bits, NaN and signed zero included."""
    if a.flags.c_contiguous and b.flags.c_contiguous:
        return kernels.same_bytes(a.ctypes.data, b.ctypes.data, a.nbytes) == -1
    bits = f"u{a.itemsize}"
    return np.array_equal(a.view(bits), b.view(bits))


__all__ = ["Grade", "Report", "verify"]
