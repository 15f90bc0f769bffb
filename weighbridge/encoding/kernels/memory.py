"""Scalars at an address. Element `index` of an array that starts at any byte; no bounds, no alignment."""

import hashlib
from functools import cache
from pathlib import Path

from llvmlite import ir
from numba import njit, types
from numba.core import event
from numba.extending import intrinsic

from weighbridge.encoding import kernels

BYTE, HALF, WORD, REAL, DOUBLE = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType(), ir.DoubleType()


def _element(builder, element, address, index):
    base = builder.inttoptr(address, element.as_pointer())
    return builder.gep(base, [index])  # an index, not a sum, so that loops can be vectorised


def loader(result, element):
    """An intrinsic (address, index) -> value."""

    @intrinsic
    def load(typingctx, address, index):
        def codegen(context, builder, signature, args):
            return builder.load(_element(builder, element, *args), align=1)

        return result(types.int64, types.int64), codegen

    return load


def storer(value_type, element):
    """An intrinsic (address, index, value)."""

    @intrinsic
    def store(typingctx, address, index, value):
        def codegen(context, builder, signature, args):
            builder.store(args[2], _element(builder, element, *args[:2]), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, value_type), codegen

    return store


def _bitcast(result, element, source):
    @intrinsic
    def bitcast(typingctx, value):
        return result(source), lambda context, builder, signature, args: builder.bitcast(args[0], element)

    return bitcast


load_u8, store_u8 = loader(types.uint8, BYTE), storer(types.uint8, BYTE)
load_u16, store_u16 = loader(types.uint16, HALF), storer(types.uint16, HALF)
load_u32, store_u32 = loader(types.uint32, WORD), storer(types.uint32, WORD)
load_i32, store_i32 = loader(types.int32, WORD), storer(types.int32, WORD)
load_f32, store_f32 = loader(types.float32, REAL), storer(types.float32, REAL)
load_f64, store_f64 = loader(types.float64, DOUBLE), storer(types.float64, DOUBLE)
f32_of_bits = _bitcast(types.float32, REAL, types.uint32)
bits_of_f32 = _bitcast(types.uint32, WORD, types.float32)

# A function for other compiled functions only. Without the entry points for Python it compiles sooner.
inner = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


def kernel(signature):
    """Mark a function that Python calls. `compiled` makes it, when it is wanted."""

    def mark(function):
        function.signature = signature
        return function

    return mark


@cache
def digest_of_source(more: Path | None = None):
    """A name for this state of all the code that can be inlined into a kernel; `more` is a folder of further kernels."""
    digest, kernels = hashlib.sha256(), Path(__file__).parent
    for file in (kernels.parent / "codec.py", *sorted(kernels.rglob("*.py")), *(sorted(more.rglob("*.py")) if more else ())):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


class _Compiling(event.Listener):
    """numba begins to compile only what its cache does not have."""

    def on_start(self, event):
        kernels.compiling()

    def on_end(self, event):
        pass


event.register("numba:compile", _Compiling())


def compiled(function, folder: Path | None = None):
    """One compiled form of a kernel, for its signature, kept on disk if a folder for it can be written.

    numba asks only whether the kernel's own file has changed, so the name has to tell of the others. `folder` holds the kernel's own files, where
    they are not here.
    """
    function.__qualname__ = f"{function.__name__}_{kernels.family()}_{digest_of_source(folder)}"
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(function.signature, cache=True, **options)(function)
    except RuntimeError:  # numba found no such folder
        return njit(function.signature, **options)(function)
