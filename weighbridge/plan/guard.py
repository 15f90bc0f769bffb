"""What happens when a mapped file becomes shorter, or its disk fails: not the death of the process, but a mark that `fault` shows.

The kernel answers the reading of a mapped page that is no longer there with SIGBUS, in the thread that reads. The handler below runs without
Python: it finds the file in a table, puts zeros from that page to the end of the map, and marks the file; the reading goes on with zeros, and
whoever reads asks for the mark before a result is used. A SIGBUS from elsewhere goes to the handler that was there before.
"""

from __future__ import annotations

import ctypes
import mmap
import signal
import threading

from weighbridge.encoding import kernels
from weighbridge.plan.guard_table import CALL, DEFAULT, EARLIER, FAULTS, HEAD, MASK, PASSED, ROWS, USED, WIDTH

SA_SIGINFO, SA_ONSTACK = 4, 0x08000000


class _SigAction(ctypes.Structure):
    """`struct sigaction` of glibc and musl on 64-bit Linux."""

    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_ubyte * 128), ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p)]


class Guard:
    """The table, and the handler that reads it. One for each process: `guard()`."""

    def __init__(self) -> None:
        from weighbridge.plan.bus_error import handler

        self.table = (ctypes.c_int64 * (HEAD + WIDTH * ROWS))()
        self.own, self.earlier, self.default = _SigAction(flags=SA_SIGINFO | SA_ONSTACK), _SigAction(), _SigAction()
        self.free: list[int] = []
        self.lock = threading.Lock()
        self.table[EARLIER], self.table[DEFAULT] = ctypes.addressof(self.earlier), ctypes.addressof(self.default)
        self.table[MASK] = -mmap.PAGESIZE
        self.own.handler = handler.address
        ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(handler.address)(CALL, ctypes.addressof(self.table), 0)
        self.sigaction = ctypes.CDLL(None).sigaction

    def stand(self) -> None:
        """Be the first whom the kernel calls: somebody else (faulthandler) may have come later."""
        now = _SigAction()
        with self.lock:
            self.sigaction(int(signal.SIGBUS), None, ctypes.byref(now))
            if now.handler != self.own.handler:
                ctypes.memmove(ctypes.byref(self.earlier), ctypes.byref(now), ctypes.sizeof(now))
                self.table[PASSED] = 0
                self.sigaction(int(signal.SIGBUS), ctypes.byref(self.own), None)

    def add(self, address: int, size: int) -> int | None:
        """Watch a range; its row, or None where the table is full."""
        self.stand()
        with self.lock:
            row = self.free.pop() if self.free else self.table[USED]
            if row == ROWS:
                return None
            at = HEAD + WIDTH * row
            self.table[at], self.table[at + 1], self.table[at + 2] = address, address + size, 0
            self.table[USED] = max(self.table[USED], row + 1)
        return row

    def remove(self, row: int) -> None:
        """Watch it no longer, before its memory is given back."""
        with self.lock:
            at = HEAD + WIDTH * row
            self.table[at] = self.table[at + 1] = 0
            self.free.append(row)

    @property
    def faults(self) -> int:
        """Faults in all ranges so far."""
        return self.table[FAULTS]

    def faulted(self, row: int) -> bool:
        """Whether bytes of this range could not be read, and zeros stand for them."""
        return self.table[HEAD + WIDTH * row + 2] != 0


_guards: list[Guard] = []


def guard() -> Guard:
    """The guard of this process, made at the first call."""
    with kernels.loading:
        if not _guards:
            _guards.append(Guard())
        return _guards[0]
