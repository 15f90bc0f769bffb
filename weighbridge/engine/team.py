"""The threads that multiply: the caller and some workers, all in one kernel call over one table of jobs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from functools import cache
from queue import SimpleQueue
from typing import Any

import numpy as np

from weighbridge.convert.threads import thread_count
from weighbridge.encoding import codec
from weighbridge.engine import kernels
from weighbridge.engine.kernels.jobs import SCRATCH, TASKS

LIMIT = {"e4m3fn": 2 * 0x7F, "e4m3": 2 * 0x78}  # twice the first code that is not a plain number


def threads() -> int:
    """WEIGHBRIDGE_THREADS, or the CPUs that this process may use when it first asks."""
    return _threads(os.environ.get("WEIGHBRIDGE_THREADS"))


@cache
def _threads(text: str | None) -> int:
    return thread_count()


def work(jobs: np.ndarray, reads: str) -> None:
    """Do all tasks of a table, int64 [jobs, FIELDS]. Who does a task has no part in its result."""
    multiply, values = kernels.load("multiply"), _values(reads)
    counter = np.zeros(1, np.int64)
    arguments = jobs.ctypes.data, len(jobs), counter.ctypes.data, values, LIMIT[reads]
    together(lambda _: multiply(*arguments, _scratch()), range(min(threads(), int(jobs[:, TASKS].sum()))))


_own = threading.local()


def _scratch() -> int:
    """Address of the memory that this thread works in."""
    if not hasattr(_own, "memory"):
        _own.memory = np.empty(SCRATCH, np.uint8)
    return _own.memory.ctypes.data


def together(function: Callable[[Any], object], items: Iterable[Any]) -> None:
    """function(item) for every item at once: the first by the caller, each other one by a worker.

    It ends when all have ended, whatever they raise; then it raises the first.
    """
    first, *others = items
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for worker, item in zip(_workers(len(others)), others):
        worker.put((function, item, done))
    raised: list[BaseException | None] = []
    try:
        function(first)
    finally:
        raised += [done.get() for _ in others]
    for error in raised:
        if error is not None:
            raise error


_all: list[SimpleQueue] = []
_growing = threading.Lock()


def _workers(count: int) -> list[SimpleQueue]:
    """The queues of `count` threads, which wait for work as long as the process lives."""
    if count > len(_all):
        with _growing:
            while count > len(_all):
                queue: SimpleQueue = SimpleQueue()
                threading.Thread(target=_serve, args=(queue,), name=f"weighbridge-engine-{len(_all)}", daemon=True).start()
                _all.append(queue)
    return _all[:count]


def _serve(queue: SimpleQueue) -> None:
    while True:
        function, item, done = queue.get()
        try:
            function(item)
            done.put(None)
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            done.put(error)
        del function, item, done  # nothing that a call used is kept until the next


def _forget() -> None:
    """A forked process has the queues, but not the threads."""
    _all.clear()


os.register_at_fork(after_in_child=_forget)


@cache
def _values(reads: str) -> int:
    """Address of the value of every code; the table stays for good."""
    _kept.append(codec.decode_table(reads))
    return _kept[-1].ctypes.data


_kept: list[np.ndarray] = []
