"""`verify A B`: every stored byte of B against A, value by value where values can be read.

Four looks, none of which writes anything or needs memory that grows with the model. (1) Every stored weight of A against every copy of it in
B, within the bound of the encodings between them (`bands.py`, `bounds.py`). (2) Where one side says that this tool made it from the other:
what `convert` writes, byte for byte (`replay.py`). (3) What holds no weight: numbers of ranks, padding, tensors that no inventory knows
(`beside.py`). (4) What was looked at by none of these is named.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.convert.threads import thread_count
from weighbridge.errors import Problem, Refused, WeighbridgeError, folded
from weighbridge.formats.element import PLAIN
from weighbridge.formats.values import Scratch
from weighbridge.layouts.placement import Part
from weighbridge.plan.bind import bind
from weighbridge.plan.reader import Reader
from weighbridge.layouts.source import Source
from weighbridge.verify import beside
from weighbridge.verify.bands import Comparer, Job, jobs_of
from weighbridge.verify.bounds import Relation
from weighbridge.verify.grades import Fault, Grade, Report, Reproduced
from weighbridge.verify.replay import Replay, Unlike, replay_of

Progress = Callable[[int, int], None]
LACKING = frozenset({"missing-tensor", "weight-without-scale"})  # findings: B (or A) holds less than the model
BEYOND = frozenset({"surplus-tensor", "scale-without-weight"})  # findings: it holds more
BESIDE = frozenset({"surplus-file", "index-names-absent", "index-lacks", "index-wrong-file"})  # of the index alone
W = TypeVar("W")
R = TypeVar("R")


def verify(a: Checkpoint, b: Checkpoint, *, sample: int = 0, seed: int = 0, progress: Progress | None = None) -> Report:
    """Grade B against A. Raises `Refused` where values of one side cannot be read and the bytes of both are not equal."""
    try:
        one, two = bind(a), bind(b)
    except WeighbridgeError as error:  # of no known family, or with sizes that are none
        return _by_bytes(a, b, list(error.problems), progress)
    fatal = [p for source in (one, two) for p in source.problems if p.code not in LACKING | BEYOND | BESIDE]
    if fatal:
        return _by_bytes(a, b, list(dict.fromkeys(fatal)), progress)
    return _Run(one, two, progress).report_of(sample, seed)


def _by_bytes(a: Checkpoint, b: Checkpoint, why: list[Problem], progress: Progress | None) -> Report:
    """Two sides whose values are not read: equal bytes are equal weights. Different bytes are no verdict, and nor are different names."""
    if not beside.same_headers(a, b) or a.problems or b.problems:
        raise Refused(folded(why))
    one, two = Reader(beside.bare(a)), Reader(beside.bare(b))
    report = Report(a.label, b.label, ("as stored", "as stored"), how="bytes")
    done, total, differ = 0, sum(t.nbytes for t in a.tensors.values()), []
    with one.unchanged(), two.unchanged():
        for name, tensor in a.tensors.items():
            place = beside.first_unequal(one, two, name)
            if place is not None:
                differ.append((name, place))
            report.grades.append(Grade(name))
            done += tensor.nbytes
            if progress:
                progress(done, total)
    if differ:
        name, place = differ[0]
        says = f"the bytes of {len(differ):,} of {len(a.tensors):,} tensors differ; whether their values do cannot be said"
        raise Refused([*folded(why), Problem("bytes-differ", says, f"{name}: byte {place:,}", "compare them with a tool that reads this form")])
    return report


class _Run:
    """One comparison: two sources, a pool of threads with a scratch each, and the report that grows."""

    def __init__(self, one: Source, two: Source, progress: Progress | None) -> None:
        self.one, self.two, self.progress = Reader(one), Reader(two), progress
        self.local = threading.local()
        self.report = Report(one.checkpoint.label, two.checkpoint.label, (one.layout, two.layout))
        self.both: list[str] = []  # tensors of no weight that the two sides have in common
        self.done = self.total = 0

    def report_of(self, sample: int, seed: int) -> Report:
        """All four looks."""
        one, two = self.one.source, self.two.source
        self.report.sampled = sample
        jobs, lost = jobs_of(one, two)
        jobs, lost = self._without_integers(jobs, lost)
        self._names(lost)
        chosen = None
        if sample and sample < len(jobs):
            kept = sorted(random.Random(seed).sample(jobs, sample), key=lambda job: job.bound.stored.name)
            chosen = {part.weight for job in kept for part in job.bound.stored.placement.parts}
            names = {job.bound.stored.name for job in kept}
            self._leave("not in the sample", [job.bound.stored.name for job in jobs if job.bound.stored.name not in names])
            jobs = kept
        self.total = sum(job.bound.weight.nbytes for job in jobs)
        with self.one.unchanged(), self.two.unchanged(), ThreadPoolExecutor(thread_count()) as self.pool:
            unlike = self._repeat(chosen)
            comparer = Comparer(self.one, self.two, Relation(one, two, self.report.reproduced.made))
            self.report.grades = list(self._each(jobs, comparer.grade, lambda job: job.bound.weight.nbytes))
        self._judge(unlike)
        self._beside()
        return self.report

    def _each(self, work: list[W], function: Callable[[W, Scratch], R], size: Callable[[W], int]) -> Iterator[R]:
        """`function` of each piece of work, over the threads, in order."""
        def with_scratch(item: W) -> R:
            if not hasattr(self.local, "scratch"):
                self.local.scratch = Scratch()
            return function(item, self.local.scratch)

        for item, result in zip(work, self.pool.map(with_scratch, work), strict=True):
            self.done += size(item)
            if self.progress:
                self.progress(self.done, self.total)
            yield result

    def _without_integers(self, jobs: list[Job], lost: list[str]) -> tuple[list[Job], list[str]]:
        """Jobs for values that are floats, or codes with a scale. Counters, masks and tables of an unknown model are compared as bytes."""
        left = []
        for job in jobs:
            name = job.bound.weight.name
            if job.bound.encoding.quantized or job.bound.encoding.dtype in PLAIN:
                left.append(job)
            elif beside.alike(self.one.source.checkpoint.tensors.get(name), self.two.source.checkpoint.tensors.get(name)):
                self.both.append(name)
            else:
                lost = [*lost, name]
        return left, lost

    def _names(self, lost: list[str]) -> None:
        """What one side lacks or has too much of. A tensor that no weight explains is surplus only where the other side has none like it."""
        one, two = self.one.source, self.two.source
        problems = [*one.problems, *two.problems]
        self.report.missing = [p.where for p in problems if p.code in LACKING] or lost
        beyond = dict.fromkeys(p.where for p in problems if p.code in BEYOND)
        names = {f"{t.file}: {name}": name for side in (one, two) for name, t in side.checkpoint.tensors.items()} if beyond else {}
        for where in beyond:
            name = names.get(where, "")
            if beside.alike(one.checkpoint.tensors.get(name), two.checkpoint.tensors.get(name)):
                self.both.append(name)
            else:
                self.report.surplus.append(where)
        self.both = list(dict.fromkeys(self.both))
        self._leave("files that the index does not name", [p.where for p in two.problems if p.code == "surplus-file"])

    def _leave(self, reason: str, names: Iterable[str]) -> None:
        """Name what is not compared."""
        listed = list(names)
        if listed:
            self.report.not_compared[reason] = listed

    def _repeat(self, weights: set[str] | None) -> list[Unlike]:
        """Repeat the conversion that made one side of the other, and tell what differs. A's word is asked first, as for the bounds.

        Both may say so: headers are alike on the way there and back. Then the one that proves true counts.
        """
        tried: list[tuple[Reproduced, list[Unlike]]] = []
        for first, made, side in ((self.two, self.one, "A"), (self.one, self.two, "B")):
            plan, why = replay_of(first.source, made.source)
            if why and not tried:
                self.report.reproduced = Reproduced(why_not=f"{side}: {why}")
            if plan is None:
                continue
            replay = Replay(plan, first, made)
            slabs = replay.slabs(weights)
            self.total += sum(Replay.size(slab) for slab in slabs)
            unlike = [each for found in self._each(slabs, replay.compare, Replay.size) for each in found]
            tensors = len({slab.place.target.stored.name for slab in slabs})
            tried.append((Reproduced(side, tensors, len({each.tensor for each in unlike})), unlike))
            if not unlike:
                break
        if not tried:
            return []
        self.report.reproduced, unlike = next((each for each in tried if not each[1]), tried[0])
        return unlike

    def _judge(self, unlike: list[Unlike]) -> None:
        """What is not as `convert` writes it is wrong, however small the difference: the grade of A's weight says so."""
        made = self.report.reproduced.made
        grades = {grade.name: grade for grade in self.report.grades}
        one = self.one.source
        for each in unlike:
            if each.part is None:
                self.report.beside.wrong.append(Fault(each.tensor, made, "padding", each.first))
                continue
            holders = one.holders[each.part.weight]
            names = [each.tensor] if made == "A" else [one.bound[n].stored.name for n, part in holders if _meet(part, each.part)]
            for grade in (grades[name] for name in names if name in grades):
                grade.unlike += each.count
                grade.first = grade.first or each.first
                grade.settle()

    def _beside(self) -> None:
        """What holds no weight, on both sides."""
        found = self.report.beside
        for reader, side in ((self.one, "A"), (self.two, "B")):
            found.add(beside.constants(reader, side))
            padded, idle = beside.padding(reader, side)
            known = {fault.name for fault in found.wrong}
            padded.wrong = [fault for fault in padded.wrong if fault.name not in known]
            found.add(padded)
            if self.report.reproduced.made != side:
                self._leave(f"{side}: {beside.PADDING}", idle)
        found.add(beside.unexplained(self.one, self.two, self.both))


def _meet(a: Part, b: Part) -> bool:
    return a.row < b.row + b.rows and b.row < a.row + a.rows and a.col < b.col + b.cols and b.col < a.col + a.cols


__all__ = ["Grade", "Job", "Report", "verify"]
