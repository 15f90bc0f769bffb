"""The handler of SIGBUS, compiled: it runs in any thread, without the interpreter, and calls nothing but the kernel. `guard.py` says why."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from weighbridge.encoding.kernels.memory import callback, load_i32, load_i64, store_i64
from weighbridge.plan.guard_table import CALL, DEFAULT, EARLIER, FAULTS, FIXED, HEAD, MASK, PASSED, USED, WIDTH

WORD = ir.IntType(64)
CELL = "weighbridge_bus_error_table"
READ = 1  # PROT_READ
CODE, ADDRESS = 2, 2  # of siginfo_t: `si_code` in words of 4 bytes, `si_addr` in words of 8


@intrinsic
def _cell(typingctx):
    """The address of a word that lives with the compiled code: where the table is. Code from a cache cannot know it."""

    def codegen(context, builder, signature, args):
        word = builder.module.globals.get(CELL)
        if word is None:
            word = ir.GlobalVariable(builder.module, WORD, CELL)
            word.initializer, word.linkage = ir.Constant(WORD, 0), "internal"
        return builder.ptrtoint(word, WORD)

    return types.int64(), codegen


_mmap = types.ExternalFunction("mmap", types.int64(types.int64, types.int64, types.int32, types.int32, types.int32, types.int64))
_sigaction = types.ExternalFunction("sigaction", types.int32(types.int32, types.int64, types.int64))
_raise = types.ExternalFunction("raise", types.int32(types.int32))


@callback("void(int64, int64, int64)")
def handler(number, at, context):
    """As a signal's handler: `at` is a siginfo_t. With the number CALL, a plain call that brings the table."""
    if number == CALL:
        store_i64(_cell(), 0, at)
        return
    table = load_i64(_cell(), 0)
    code = load_i32(at, CODE)
    if code > 0:  # from the kernel, about an address
        address = load_i64(at, ADDRESS)
        for row in range(load_i64(table, USED)):
            entry = table + 8 * (HEAD + WIDTH * row)
            end = load_i64(entry, 1)
            if load_i64(entry, 0) <= address and address < end:
                page = address & load_i64(table, MASK)
                if _mmap(page, end - page, READ, FIXED, -1, 0) == page:
                    store_i64(entry, 2, load_i64(entry, 2) + 1)
                    store_i64(table, FAULTS, load_i64(table, FAULTS) + 1)
                    return
    # Not ours. The reading is tried again after the return, and the earlier handler sees it; a second time, the default.
    passed = load_i64(table, PASSED)
    store_i64(table, PASSED, passed + 1)
    _sigaction(number, load_i64(table, EARLIER if passed == 0 else DEFAULT), 0)
    if code <= 0:  # sent by a process: nothing is tried again
        _raise(number)
