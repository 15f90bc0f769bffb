"""The codec of all formats again, at the speed of memory: one path for every packing and element, made of loops over a strip of a row.

Like `encoding.kernels`, kernels take addresses, check nothing and let other threads run; `formats.fast` calls them with arrays. A strip of a row is
unpacked to codes, codes become float32, scales act, and the result is rounded: each a loop over some thousand values that stay in the first cache.

decode (packed source, element, grids, order, region, result)
    Stored codes to float32, bfloat16 or float16.
unpack, pack (packed bytes, codes)
    Codes to bytes and back; one row of codes after the other.
ranges (values, block, low, high)
    The least and the greatest value of each block.
encode (values, grids, element, packed result)
    Values to stored codes, with given scales and zero points.

A kernel is compiled at its first use and then read from a cache, as those of `encoding.kernels`.
"""

from __future__ import annotations

import importlib
import threading
from pathlib import Path

# importing `encoding.kernels` sets the folder of numba's cache
from weighbridge.encoding import kernels as first

STORY = {"decode": "decode", "unpack": "bits", "pack": "bits", "ranges": "encode", "encode": "encode"}
HERE = Path(__file__).parent

_loaded: dict[str, object] = {}
_loading = threading.Lock()


def load(name: str):
    """One kernel by name."""
    with _loading:
        if name not in _loaded:
            assert first is not None
            from weighbridge.encoding.kernels.memory import compiled

            module = importlib.import_module(f"{__name__}.{STORY[name]}")
            _loaded[name] = compiled(getattr(module, name), HERE)
    return _loaded[name]
