"""Runs a plan: each file's slabs over a few threads, each file under its name when it is whole."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weighbridge.convert.apply import Loss, Scratch, scale_rows
from weighbridge.convert.fill import fill, first_scale_row, straight
from weighbridge.convert.memory import AnonymousPeak
from weighbridge.convert.output import Output, io_error
from weighbridge.convert.shape import FileShape, SlabPlan, file_shape, slabs
from weighbridge.convert.sidecars import manifest, measured, write_sidecars
from weighbridge.errors import Usage, WeighbridgeError
from weighbridge.layouts import neuron
from weighbridge.plan.plan import Plan
from weighbridge.plan.reader import Reader, require_scales
from weighbridge.runtimes import neuron as reader_of

Progress = Callable[[int, int], None]  # bytes written, bytes to write


@dataclass
class Result:
    """What a conversion did; `document` is the JSON of the contract."""

    plan: Plan
    seconds: float
    peak_memory_bytes: int
    files: list[str]
    lossy: list[dict[str, Any]]
    carried: dict[str, list[str]]
    already: bool = False

    def document(self) -> dict[str, Any]:
        return plan_document(self.plan) | {
            "peak_memory_bytes": self.peak_memory_bytes, "seconds": round(self.seconds, 3), "lossy": self.lossy,
            "files": self.files, "complete": True, "already_complete": self.already, **self.carried,
        }


def plan_document(plan: Plan) -> dict[str, Any]:
    """The part of the document that is known before anything is done."""
    return {
        "from": plan.source.layout, "to": plan.layout, "options": plan.options.asdict(), "pieces": plan.pieces,
        "converted_scales": plan.scales, "bytes_read": plan.bytes_read, "bytes_written": plan.bytes_written,
        "peak_memory_bytes": 0, "seconds": 0.0, "lossy": plan.lossy, "files": list(plan.files), "steps": dict(plan.steps), "notes": load_notes(plan),
    }


def load_notes(plan: Plan) -> list[str]:
    """What the reader of the destination must be told by a person."""
    if not plan.layout.startswith("neuron") or not plan.targets:
        return []
    parallel, _ = neuron.parallelism(plan.inventory, plan.options)
    return reader_of.notes(parallel, plan.inventory.sizes, exact=plan.options.attention == "exact")


def thread_count() -> int:
    text = os.environ.get("WEIGHBRIDGE_THREADS", "")
    if text and not (text.isdigit() and int(text) > 0):
        raise Usage(f"{text!r} is not a number of threads", "WEIGHBRIDGE_THREADS", "give a whole number from 1 on, or nothing")
    return int(text) if text else len(os.sched_getaffinity(0))


def convert(plan: Plan, destination: Path, progress: Progress | None = None, sync: bool = False) -> Result:
    """Carry `plan` out into `destination`. Refuses before the first write; run it again to go on after a kill."""
    started = time.perf_counter()
    plan.refuse()
    reader = require_scales(plan.source)
    output = Output(destination, plan.digest)
    shapes = [file_shape(name, targets) for name, targets in plan.files.items()]
    if output.complete:
        return Result(plan, time.perf_counter() - started, 0, [s.name for s in shapes], plan.lossy, {}, already=True)
    left = [s for s in shapes if s.name not in output.done]
    output.begin(sum(s.size for s in left))
    with AnonymousPeak() as peak, reader.unchanged(), ThreadPoolExecutor(thread_count()) as pool:
        work = _Work(reader, output, pool, progress, sum(s.size for s in shapes), sum(s.size for s in shapes) - sum(s.size for s in left))
        for shape in left:
            work.file(shape, sync)
    losses = output.losses([s.name for s in shapes])
    try:
        carried = write_sidecars(plan, destination, shapes)
        output.close(manifest(plan, shapes, losses, carried))
    except OSError as error:
        raise io_error(error, destination) from error
    lossy = [row | measured(losses.get(row["step"], Loss())) for row in plan.lossy]
    return Result(plan, time.perf_counter() - started, peak.bytes, [s.name for s in shapes], lossy, carried)


class _Work:
    """State of one run: the pool, a buffer for each thread, and the bytes that are done."""

    def __init__(self, reader: Reader, output: Output, pool: ThreadPoolExecutor, progress: Progress | None, total: int, done: int) -> None:
        self.reader, self.output, self.pool, self.progress = reader, output, pool, progress
        self.total, self.done = total, done
        self.local = threading.local()
        self.lock = threading.Lock()

    def file(self, shape: FileShape, sync: bool) -> None:
        path = self.output.root / shape.name
        partial = path.with_name(path.name + ".partial")
        try:
            path.parent.mkdir(exist_ok=True)
            handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                os.posix_fallocate(handle, 0, shape.size)  # a full disk shows now, and later writes are faster
                _write(handle, shape.header, 0)
                losses = self._slabs(handle, shape)
                self.reader.require_unchanged(recent=True)
                if sync:
                    os.fsync(handle)
            finally:
                os.close(handle)
            partial.replace(path)
            self.output.finished(shape.name, shape.size, losses, sync)
        except OSError as error:
            if error.errno == errno.EFAULT:  # the kernel could not read the bytes that were to be written, as a mapped page is gone
                self.reader.require_unchanged()
                raise WeighbridgeError("io", "its bytes could not be read: the disk of the source fails", self.reader.source.checkpoint.label) from error
            raise io_error(error, path, shape.size) from error

    def _slabs(self, handle: int, shape: FileShape) -> dict[str, Loss]:
        futures = [self.pool.submit(self._slab, handle, plan) for plan in slabs(shape)]
        finished, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
        wait(futures)  # the file stays open until the last thread that writes it has ended
        total: dict[str, Loss] = {}
        for future in futures:  # in the order of the slabs, so that sums are the same for any number of threads
            if future in finished or not future.cancelled():
                for name, loss in future.result().items():
                    total.setdefault(name, Loss()).add(loss)
        return total

    def _slab(self, handle: int, plan: SlabPlan) -> dict[str, Loss]:
        target = plan.place.target
        columns, itemsize = target.stored.placement.cols, target.encoding.itemsize
        offset = plan.place.weight + (plan.lead * target.stored.placement.rows + plan.start) * columns * itemsize
        losses: dict[str, Loss] = {}
        if target.stored.constant is not None:
            _write(handle, np.asarray(target.stored.constant, np.int32), offset)
        elif not self._straight(handle, plan, offset):
            losses = self._filled(handle, plan, offset)
        with self.lock:
            self.done += (plan.stop - plan.start) * columns * itemsize
            if self.progress:
                self.progress(self.done, self.total)
        return losses

    def _straight(self, handle: int, plan: SlabPlan, offset: int) -> bool:
        """Bytes that do not change go from the mapped source to the file without a stop."""
        codes = straight(self.reader, plan)
        if codes is None:
            return False
        _write(handle, codes, offset)
        return True

    def _filled(self, handle: int, plan: SlabPlan, offset: int) -> dict[str, Loss]:
        if not hasattr(self.local, "scratch"):
            self.local.scratch = Scratch()
        slab = fill(self.reader, plan, self.local.scratch)
        _write(handle, slab.codes_RC, offset)
        if slab.scale_RbCb is not None:
            self._scales(handle, plan, slab.scale_RbCb)
        return slab.losses

    def _scales(self, handle: int, plan: SlabPlan, scale: np.ndarray) -> None:
        """The slab's rows of the scale tensor; blocks of padding get zero."""
        target = plan.place.target
        grid = target.stored.scale_shape(target.encoding)
        stored = scale_rows(target.stored, target.encoding, scale)
        _write(handle, np.ascontiguousarray(stored), plan.place.scale + first_scale_row(plan) * grid[-1] * stored.itemsize)


def _write(handle: int, data: bytes | np.ndarray, offset: int) -> None:
    """All of `data` at `offset`, in large writes."""
    view = memoryview(data).cast("B") if not isinstance(data, np.ndarray) else memoryview(data.reshape(-1).view(np.uint8))
    while len(view):
        written = os.pwrite(handle, view[: 64 << 20], offset)
        view, offset = view[written:], offset + written
