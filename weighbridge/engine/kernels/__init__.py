"""Matrices times a few vectors, over the stored codes. Kernels take addresses and let other threads run.

multiply (jobs, count, counter, values, limit, scratch) -> None
    Does tasks of a table of jobs until none is left. Every thread that works on a table makes the same call.
    `jobs` is int64 [count, FIELDS] (see jobs.py), `counter` one int64 that starts at 0, `values` float32 [256]:
    what each FP8 code means; `scratch` is memory of this thread, SCRATCH bytes. `limit` is twice the least code
    (without its sign) that is not a plain number.
prepare (x, T, K, scaled, dealt, powers) -> None
    Rows of float32 to rows whose largest magnitude is near 2**60, twice (see jobs.py), and the power of two that undoes each.

Two families as in `encoding.kernels`: `portable` and `vector`; the same variables choose and the same cache holds them.
"""

import hashlib
import importlib
from functools import cache
from pathlib import Path

from weighbridge.encoding.kernels import FAMILIES, family, loading, vector_is_possible

STORY = {"multiply": "multiply", "prepare": "prepare"}
__all__ = ["FAMILIES", "STORY", "family", "load", "vector_is_possible"]


@cache
def _digest() -> str:
    """A name for the state of these sources; `compiled` knows only that of the codec's."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


@cache
def load(name: str, from_family: str | None = None):
    """One kernel by name, of the family that the process has when it first asks, or of the named one."""
    with loading:
        from weighbridge.encoding.kernels.memory import compiled

        module = importlib.import_module(f"{__name__}.{from_family or family()}.{STORY[name]}")
        function = getattr(module, name)
        function.__name__ = f"{name}_{_digest()}"
        return compiled(function)
