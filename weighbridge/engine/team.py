"""The threads that multiply: the caller and some helpers, all in one kernel call over one table of jobs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from weighbridge.convert.run import thread_count
from weighbridge.encoding import codec
from weighbridge.engine import kernels
from weighbridge.engine.kernels.jobs import TASKS

LIMIT = {"e4m3fn": 2 * 0x7F, "e4m3": 2 * 0x78}  # twice the first code that is not a plain number


def threads() -> int:
    """WEIGHBRIDGE_THREADS, or the CPUs that this process may use."""
    return thread_count()


def work(jobs: np.ndarray, reads: str) -> None:
    """Do all tasks of a table, int64 [jobs, FIELDS]. Who does a task has no part in its result."""
    multiply, values = kernels.load("multiply"), _values(reads)
    counter = np.zeros(1, np.int64)
    call = (multiply, jobs.ctypes.data, len(jobs), counter.ctypes.data, values.ctypes.data, LIMIT[reads])
    most = threads()
    helpers = [_pool(most - 1).submit(*call) for _ in range(min(most, int(jobs[:, TASKS].sum())) - 1)]
    multiply(*call[1:])
    for helper in helpers:
        helper.result()


def share(function, items) -> None:
    """function(item) for every item, by the same threads."""
    items = list(items)
    if threads() == 1 or len(items) < 2:
        for item in items:
            function(item)
        return
    helpers = [_pool(threads() - 1).submit(function, item) for item in items[1:]]
    function(items[0])
    for helper in helpers:
        helper.result()


@cache
def _values(reads: str) -> np.ndarray:
    return codec.decode_table(reads)


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, thread_name_prefix="weighbridge-engine")
