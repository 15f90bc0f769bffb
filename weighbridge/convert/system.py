"""Every call to the file system that touches a destination, one method each. Nothing else in the house writes into a destination.

Names are relative to an open folder (`at`), so no part of a path is looked up twice. Tests put a class of their own into `CURRENT`: one that fails,
one that dies, one that records.
"""

from __future__ import annotations

import errno
import fcntl
import os

BESIDE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a link is an error, and a FIFO does not wait for its other end


class System:
    """The calls as they are. Each raises `OSError`."""

    def open(self, name: str, flags: int, at: int | None) -> int:
        return os.open(name, flags | os.O_CLOEXEC, 0o666, dir_fd=at)

    def close(self, handle: int) -> None:
        os.close(handle)

    def mkdir(self, name: str, at: int | None) -> None:
        os.mkdir(name, dir_fd=at)

    def names(self, handle: int) -> list[str]:
        return sorted(os.listdir(handle))

    def lstat(self, name: str, at: int | None) -> os.stat_result:
        return os.stat(name, dir_fd=at, follow_symlinks=False)

    def fstat(self, handle: int) -> os.stat_result:
        return os.fstat(handle)

    def pread(self, handle: int, length: int, offset: int) -> bytes:
        return os.pread(handle, length, offset)

    def pwrite(self, handle: int, data: memoryview, offset: int) -> int:
        return os.pwrite(handle, data, offset)

    def write(self, handle: int, data: memoryview) -> int:
        return os.write(handle, data)

    def truncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def allocate(self, handle: int, size: int) -> None:
        """Room for `size` bytes, or `ENOSPC` now instead of later."""
        os.posix_fallocate(handle, 0, size)

    def fsync(self, handle: int) -> None:
        os.fsync(handle)

    def rename(self, old: str, new: str, at: int) -> None:
        os.rename(old, new, src_dir_fd=at, dst_dir_fd=at)

    def unlink(self, name: str, at: int) -> None:
        os.unlink(name, dir_fd=at)

    def rmdir(self, name: str, at: int) -> None:
        os.rmdir(name, dir_fd=at)

    def lock(self, handle: int) -> None:
        """An exclusive lock that ends with the last handle of this opening: `BlockingIOError` where another has it."""
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def free(self, path: str) -> int:
        """Bytes that this user can still write on the disk of `path`."""
        disk = os.statvfs(path)
        return disk.f_bavail * disk.f_frsize


CURRENT = System()


def write_all(handle: int, data: memoryview, offset: int | None = None) -> None:
    """All of `data`, at `offset` or at the end, in as many writes as it takes."""
    while len(data):
        piece = data[: 64 << 20]
        written = CURRENT.write(handle, piece) if offset is None else CURRENT.pwrite(handle, piece, offset)
        if written <= 0:
            raise OSError(errno.EIO, "the file system wrote nothing and gave no reason")
        data = data[written:]
        offset = None if offset is None else offset + written


def allocate(handle: int, size: int) -> None:
    """Room for `size` bytes; where the file system cannot promise it, the size alone."""
    try:
        if size:
            CURRENT.allocate(handle, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        CURRENT.truncate(handle, size)
