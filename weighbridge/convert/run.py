"""Runs a plan: each file's slabs over a few threads, each file under its name when it is whole."""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from weighbridge.convert import system
from weighbridge.convert.fill import slab_bytes
from weighbridge.convert.folder import PARTIAL, Folder
from weighbridge.convert.hashing import StreamHash
from weighbridge.convert.manifest import FileRecord
from weighbridge.convert.memory import AnonymousPeak
from weighbridge.convert.origin import HashingReader, Origin
from weighbridge.convert.output import Output, io_error
from weighbridge.convert.shape import FileShape, SlabPlan, file_shape, slabs
from weighbridge.convert.sidecars import Sidecars, manifest, measured
from weighbridge.convert.slab import Loss
from weighbridge.convert.system import write_all
from weighbridge.convert.threads import thread_count
from weighbridge.errors import Refused, WeighbridgeError
from weighbridge.formats.values import Scratch
from weighbridge.layouts import NEURON, neuron
from weighbridge.plan.plan import Plan
from weighbridge.plan.reader import require_scales
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
    again: dict[str, str] = field(default_factory=dict)  # files that were there and were made anew, and why

    def document(self) -> dict[str, Any]:
        return plan_document(self.plan) | {
            "peak_memory_bytes": self.peak_memory_bytes, "seconds": round(self.seconds, 3), "lossy": self.lossy,
            "files": self.files, "complete": True, "already_complete": self.already,
            "made_anew": [{"file": name, "why": why} for name, why in self.again.items()], **self.carried,
        }


def plan_document(plan: Plan) -> dict[str, Any]:
    """The part of the document that is known before anything is done."""
    return {
        "from": plan.source.layout, "to": plan.layout, "options": plan.options.asdict(), "pieces": plan.pieces,
        "converted_scales": plan.scales, "bytes_read": plan.bytes_read, "bytes_written": plan.bytes_written,
        "peak_memory_bytes": 0, "seconds": 0.0, "lossy": plan.lossy, "files": list(plan.files), "steps": dict(plan.steps), "notes": load_notes(plan),
        "stay_plain": stay_plain(plan),
    }


def stay_plain(plan: Plan) -> list[dict[str, Any]]:
    """Weights that the layout would quantize and cannot, by reason."""
    found: dict[str, dict[str, Any]] = {}
    for target in plan.targets:
        if target.stored.why_plain:
            row = found.setdefault(target.stored.why_plain, {"why": target.stored.why_plain, "count": 0, "first": target.stored.stem})
            row["count"] += 1
    return list(found.values())


def load_notes(plan: Plan) -> list[str]:
    """What the reader of the destination must be told by a person."""
    if plan.layout not in NEURON or not plan.targets:
        return []
    parallel, _ = neuron.parallelism(plan.inventory, plan.options)
    return reader_of.notes(parallel, plan.inventory.sizes, exact=plan.options.attention == "exact")


def convert(plan: Plan, destination: Path, progress: Progress | None = None, sync: bool = False) -> Result:
    """Carry `plan` out into `destination`. Refuses before the first write; run it again to go on after a kill."""
    started = time.perf_counter()
    plan.refuse()
    reader = require_scales(plan.source, HashingReader)
    shapes = [file_shape(name, targets) for name, targets in plan.files.items()]
    sidecars = Sidecars(plan, shapes)
    if problems := sidecars.problems():
        raise Refused(problems)
    reader.origin = origin = Origin(plan.source.checkpoint, sidecars.read)
    with Output(destination, plan.digest, [*(s.name for s in shapes), *sidecars.names], origin, sync, progress) as output:
        job = _Job(plan, output, origin, shapes, sidecars)
        try:
            output.examine()
            if not output.complete:
                output.begin(job.need)
            if output.complete:
                return Result(plan, time.perf_counter() - started, 0, [s.name for s in shapes], plan.lossy, {}, already=True)
            with AnonymousPeak() as peak:
                job.weights(reader, progress)
                losses = job.rest()
        except OSError as error:
            raise io_error(error, Path(destination), job.need) from error
        lossy = plan.lossy if losses is None else [row | measured(losses.get(row["step"], Loss())) for row in plan.lossy]
        return Result(plan, time.perf_counter() - started, peak.bytes, [s.name for s in shapes], lossy, sidecars.document(), again=output.again)


@dataclass
class _Job:
    """The order of one run: weights, then what lies beside them, then the manifest."""

    plan: Plan
    output: Output
    origin: Origin
    shapes: list[FileShape]
    sidecars: Sidecars

    @property
    def left(self) -> list[FileShape]:
        return [s for s in self.shapes if s.name not in self.output.done]

    @property
    def need(self) -> int:
        """Bytes that are still to be written."""
        return sum(s.size for s in self.left)

    def weights(self, reader: HashingReader, progress: Progress | None) -> None:
        total = sum(s.size for s in self.shapes)
        with reader.unchanged(), ThreadPoolExecutor(thread_count()) as pool:
            work = _Work(reader, self.output, pool, progress, total, total - self.need, lambda: self.need)
            for shape in self.left:
                record, losses = work.file(shape)
                self.origin.require_unchanged()
                self.output.add(shape.name, record, losses, self.origin.fresh())

    def rest(self) -> dict[str, Loss] | None:
        """Sidecars and manifest; returns what was lost, or None where the manifest of a finished output stays."""
        assert self.output.folder is not None
        for name in self.sidecars.names:
            if name not in self.output.done:
                self.output.add_sidecar(name, self.sidecars.put(self.output.folder, name))
        if self.output.finished is not None:
            self.origin.require_unchanged()
            self.output.close(None)
            return None
        self.origin.finish()
        self.origin.require_unchanged()
        order = [s.name for s in self.shapes]
        losses = self.output.losses(order)
        files = {name: {"bytes": self.output.done[name].bytes, "hash": self.output.done[name].hash} for name in [*order, *self.sidecars.names]}
        self.output.close(manifest(self.plan, files, losses, self.origin.record(), self.sidecars))
        return losses


class _Work:
    """State of one run: the pool, a buffer for each thread, and the bytes that are done."""

    def __init__(self, reader: HashingReader, output: Output, pool: ThreadPoolExecutor, progress: Progress | None, total: int, done: int,
                 need: Callable[[], int]) -> None:
        self.reader, self.output, self.pool, self.progress = reader, output, pool, progress
        self.total, self.done, self.need = total, done, need
        self.local = threading.local()
        self.lock = threading.Lock()

    def file(self, shape: FileShape) -> tuple[FileRecord, dict[str, Loss]]:
        """Make one file, under its name when it is whole; returns its size and hash, and what was lost."""
        folder = self.output.folder
        assert folder is not None
        try:
            handle = folder.create(shape.name, shape.size)  # a full disk shows now, and later writes are faster
            try:
                running = StreamHash(shape.starts, shape.size)
                _write(handle, shape.header, 0)
                running.feed(0, shape.header)
                losses = self._slabs(handle, shape, running)
                record = FileRecord(shape.size, running.finish(lambda offset, length: system.CURRENT.pread(handle, length, offset)))
                self.reader.require_unchanged(recent=True)
                folder.publish(shape.name, handle)
            finally:
                system.CURRENT.close(handle)
        except OSError as error:
            self._drop(folder, shape)
            if error.errno == errno.EFAULT:  # the kernel could not read the bytes that were to be written, as a mapped page is gone
                self.reader.require_unchanged()
                raise WeighbridgeError("io", "its bytes could not be read: the disk of the source fails", self.reader.source.checkpoint.label) from error
            raise io_error(error, self.output.root / shape.name, self.need()) from error
        return record, losses

    def _drop(self, folder: Folder, shape: FileShape) -> None:
        """Give back the room of a file that will not be whole."""
        try:
            folder.remove(shape.name + PARTIAL)
        except OSError:
            return

    def _slabs(self, handle: int, shape: FileShape, running: StreamHash) -> dict[str, Loss]:
        ordinals: Counter[int] = Counter()
        futures = []
        for plan in slabs(shape):
            futures.append(self.pool.submit(self._slab, handle, plan, running, ordinals[plan.place.offsets[0]]))
            ordinals[plan.place.offsets[0]] += 1
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            for future in futures:
                future.cancel()
            wait(futures)  # the file stays open until the last thread that writes it has ended
        total: dict[str, Loss] = {}
        for future in futures:  # in the order of the slabs, so that sums are the same for any number of threads
            if not future.cancelled():
                for name, loss in future.result().items():
                    total.setdefault(name, Loss()).add(loss)
        return total

    def _slab(self, handle: int, plan: SlabPlan, running: StreamHash, ordinal: int) -> dict[str, Loss]:
        try:
            if not hasattr(self.local, "scratch"):
                self.local.scratch = Scratch()
            written, losses = slab_bytes(self.reader, plan, self.local.scratch)
            for offset, data in written:
                _write(handle, data, offset)
            running.turn(plan.place.offsets[0], ordinal, lambda: [running.feed(offset, data) for offset, data in written])
        except BaseException:
            running.stop()
            raise
        with self.lock:
            self.done += sum(data.nbytes for _, data in written)
            if self.progress:
                self.progress(self.done, self.total)
        return losses


def _write(handle: int, data: bytes | np.ndarray, offset: int) -> None:
    """All of `data` at `offset`."""
    write_all(handle, memoryview(data) if isinstance(data, bytes) else memoryview(data.reshape(-1).view(np.uint8)), offset)
