"""One thread per call of numpy's BLAS, while the engine's own threads share the panels.

A BLAS that splits each small product waits at the end of each for its slowest thread; on a busy machine it takes many times
longer. OpenBLAS, which numpy's wheels bring, has functions for it; another BLAS keeps its ways.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np

# Prefix and suffix of the names: numpy's own build, a build with 64-bit integers, the plain library.
SPELLINGS = (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", ""))
_using, _users, _before = threading.Lock(), 0, 0


def can_be_single() -> bool:
    return _functions() is not None


@contextmanager
def single() -> Iterator[None]:
    """The BLAS works with one thread; after the last user it has as many as before."""
    global _users, _before
    found = _functions()
    if found is None:
        yield
        return
    get, put = found
    with _using:
        if not _users:
            _before = get()
            put(1)
        _users += 1
    try:
        yield
    finally:
        with _using:
            _users -= 1
            if not _users:
                put(_before)


@cache
def _functions():
    """(get, set) of the OpenBLAS that this process has loaded, or None."""
    np.dot(np.ones((2, 2)), np.ones((2, 2)))
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            paths = sorted({line.split(maxsplit=5)[5].strip() for line in maps if "openblas" in line})
    except OSError:
        return None
    for path in sorted(paths, key=lambda path: "numpy" not in path):
        library = ctypes.CDLL(path)
        for prefix, suffix in SPELLINGS:
            get, put = (getattr(library, f"{prefix}openblas_{verb}_num_threads{suffix}", None) for verb in ("get", "set"))
            if get and put:
                get.restype, put.argtypes, put.restype = ctypes.c_int, [ctypes.c_int], None
                return get, put
    return None
