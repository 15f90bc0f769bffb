"""Files in memory: read-only, without an open descriptor, and without the death of the process when a file becomes shorter."""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weighbridge.checkpoint.identity import Identity, require_same, state
from weighbridge.errors import WeighbridgeError
from weighbridge.plan.guard import Guard, guard

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
FAILED = ctypes.c_void_p(-1).value


class MappedFile:
    """All bytes of a file: `numpy.asarray(mapped)` is a view of them, which keeps the map. `mmap.mmap` would keep a descriptor for each file.

    Pages that vanish read as zero from then on; `require_unchanged` tells. `identity` is what the file was when it was mapped; `expect` may
    refuse it.
    """

    def __init__(self, path: Path, expect: Callable[[Identity], None] = lambda _: None) -> None:
        self.path = path
        try:
            handle = os.open(path, os.O_RDONLY)
            try:
                self.identity = Identity.of(os.fstat(handle))
                expect(self.identity)
                self.address = self._map(handle)
            finally:
                os.close(handle)
        except OSError as error:
            more = "more files are mapped than vm.max_map_count allows" if error.errno == 12 else ""
            raise WeighbridgeError("io", f"cannot be mapped: {error.strerror}", str(path), more) from error
        self.guard = guard()
        row = self.guard.add(self.address, self.identity.size)
        if row is None:
            _libc.munmap(self.address, self.identity.size)
            raise WeighbridgeError("io", "cannot be mapped: too many files are mapped", str(path))
        self.row = row
        weakref.finalize(self, _unmap, self.guard, row, self.address, self.identity.size).atexit = False

    def _map(self, handle: int) -> int:
        if not self.identity.size:
            raise WeighbridgeError("io", "cannot be mapped: it is empty", str(self.path))
        address = _libc.mmap(None, self.identity.size, mmap.PROT_READ, mmap.MAP_SHARED, handle, 0)
        if address == FAILED:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return address

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"version": 3, "typestr": "|u1", "shape": (self.identity.size,), "data": (self.address, True)}

    def require_unchanged(self) -> None:
        """Raise `source-changed` where the file is not what was mapped any more, `io` where its disk failed."""
        require_same(self.path, self.identity, state(self.path), held=True)
        if self.guard.faulted(self.row):
            raise WeighbridgeError("io", "some of its bytes could not be read: the file was shorter for a while, or its disk fails", str(self.path),
                                   "look at the system's log (dmesg) for errors of the disk")


def _unmap(watch: Guard, row: int, address: int, size: int) -> None:
    watch.remove(row)
    _libc.munmap(address, size)
