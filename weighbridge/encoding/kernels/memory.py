"""Scalars at an address. Element `index` of an array that starts at any byte; no bounds, no alignment."""

import hashlib
import threading
from functools import cache
from pathlib import Path

from llvmlite import ir
from numba import cfunc, njit, types
from numba.core import config, event
from numba.extending import intrinsic

from weighbridge.cachefolder import private_folder
from weighbridge.encoding import kernels

BYTE, HALF, WORD, LONG, REAL, DOUBLE = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()


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
load_i64, store_i64 = loader(types.int64, LONG), storer(types.int64, LONG)
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
    """One compiled form of a kernel, for its signature, kept on disk if there is a folder for it. `folder` holds the kernel's own files, where they
    are not here."""
    return _kept(function, folder, lambda cache: njit(function.signature, cache=cache, nogil=True, error_model="numpy"))


def callback(signature):
    """A decorator: a function as machine code with the calling convention of C, whose `address` a library or the kernel may call. Kept as `compiled` does."""
    return lambda function: _kept(function, None, lambda cache: cfunc(signature, cache=cache, error_model="numpy"))


_compiling = threading.Lock()


def _kept(function, own: Path | None, decorator):
    """numba asks only whether the function's own file has changed, so the name has to tell of the others.

    The folder is numba's own (NUMBA_CACHE_DIR) where the user has named one. Else it is ours, for this call only: other code in this process that
    numba compiles keeps its place.
    """
    function.__qualname__ = f"{function.__name__}_{kernels.family()}_{digest_of_source(own)}"
    with _compiling:
        before = config.CACHE_DIR
        folder = before or private_folder("numba")
        if not folder:
            return decorator(False)(function)
        config.CACHE_DIR = str(folder)
        try:
            return decorator(True)(function)
        except (RuntimeError, OSError):  # numba cannot write there
            return decorator(False)(function)
        finally:
            config.CACHE_DIR = before
