"""The codec again, at the speed of memory. Every kernel takes addresses and lets other threads run.

A region is R rows of C elements. `*_ld` is the distance between two rows, in elements of that array;
addresses need no alignment and are not checked. `scale` is a float32 grid: element (i, j) of the region
uses scale[(r0 + i) // bR, (c0 + j) // bC]. All arguments are integers, but `fmax`, `rel` and `absolute`.

decode_bf16, decode_f32 (src, src_ld, R, C, scale, scale_ld, r0, c0, bR, bC, dst, dst_ld) -> NaN codes seen
    e4m3fn codes to values.
move (src, src_ld, R, C, dst, dst_ld, transposed, mode, bR, bC, counts) -> NaN codes seen (mode COPY: 0)
    Codes to codes. `counts`, an int32 grid for the blocks of the region or 0, gets the inexact codes
    (mode HALVE) or the codes that overflow and become 448 (mode DOUBLE) of each block.
quantize_bf16, quantize_f32 (src, src_ld, R, C, bR, bC, fmax, dst, dst_ld, scale, scale_ld) -> blocks refused
    Values to codes and one scale per block. A block with NaN or infinity becomes NaN.
compare_f32 (a, a_ld, b, b_ld, R, C, grid, grid_ld, r0, c0, bR, bC, rel, absolute, out) -> None
    Adds the differences of two float32 regions to `out`, float64 [6]; see portable/compare.py.
same_bytes (a, b, n) -> index of the first byte that differs, or -1

Two families hold these functions: `portable` runs on every CPU, `vector` on x86 with AVX2. The CPU
chooses, unless WEIGHBRIDGE_KERNELS names one. A kernel is compiled at its first use and then read from
a cache: `memory.py` says where that is. `when_compiling` is called once, before the first that is not there.
"""

import importlib
import os
import threading

COPY, HALVE, DOUBLE, LEGACY = range(4)  # the modes of `move`

STORY = {
    "decode_bf16": "decode",
    "decode_f32": "decode",
    "move": "move",
    "quantize_bf16": "quantize",
    "quantize_f32": "quantize",
    "compare_f32": "compare",
    "same_bytes": "compare",
}
FAMILIES = ("portable", "vector")

loading = threading.RLock()  # for all that imports numba: where two threads enter it by different modules, Python may see a deadlock

def vector_is_possible() -> bool:
    """Whether the code that numba writes for this machine can use AVX2."""
    with loading:
        from numba.core.registry import cpu_target

    return "+avx2" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")


def family() -> str:
    """The family that this process uses."""
    wanted = os.environ.get("WEIGHBRIDGE_KERNELS") or ("vector" if vector_is_possible() else "portable")
    if wanted not in FAMILIES:
        raise ValueError(f"WEIGHBRIDGE_KERNELS={wanted!r}: the kernel families are {', '.join(FAMILIES)}")
    return wanted


when_compiling = None  # a function without arguments; the command line sets it, since the first wait is long


def compiling():
    """A kernel is about to be compiled."""
    global when_compiling
    told, when_compiling = when_compiling, None
    if told is not None:
        told()


_loaded = {}


def load(name: str, from_family: str | None = None):
    """One kernel by name, of the family of this process or of the named one."""
    with loading:
        key = from_family or family(), STORY[name], name
        if key not in _loaded:
            from .memory import compiled

            module = importlib.import_module(f"{__name__}.{key[0]}.{key[1]}")
            _loaded[key] = compiled(getattr(module, name))
    return _loaded[key]


def __getattr__(name: str):
    if name not in STORY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    kernel = globals()[name] = load(name)
    return kernel
