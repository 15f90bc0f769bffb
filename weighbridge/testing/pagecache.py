"""Which pages of files the kernel holds in memory, and how to make it forget them: to see how much of a file was read."""
from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]


def pages(path: Path) -> set[int]:
    """Numbers of the pages of a file that are in memory."""
    size = path.stat().st_size
    if not size:
        return set()
    found = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with open(path, "rb") as file:
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    if address == ctypes.c_void_p(-1).value or _libc.mincore(address, size, found):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    _libc.munmap(address, size)
    return {number for number, byte in enumerate(bytes(found)) if byte & 1}


def resident(folder: Path) -> int:
    """Bytes of all files of a folder that are in memory."""
    return sum(len(pages(path)) for path in folder.iterdir() if path.is_file()) * mmap.PAGESIZE


def forget(folder: Path) -> None:
    """Drop the files of a folder from memory, as far as the file system does that (tmpfs does not)."""
    for path in folder.iterdir():
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
