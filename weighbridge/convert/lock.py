"""One writer for a destination: a lock of the operating system, which ends with its holder, however that ends."""

from __future__ import annotations

import errno
import os
import socket
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from weighbridge.convert import system
from weighbridge.convert.folder import Folder
from weighbridge.convert.system import write_all
from weighbridge.errors import WeighbridgeError

LIMIT = 1_000  # bytes of a holder's text
ATTEMPTS = 20  # a holder that ends removes the file, so a lock may be of a file that is there no more


class Holder(msgspec.Struct):
    """Who writes: what the file says to the next one that comes. Only the lock counts, not this text."""

    pid: int
    host: str
    since: str


class Lock(NamedTuple):
    """A handle that has the lock of a file until it is closed, and what the file held before (None: it was not there)."""

    handle: int
    before: bytes | None

    def undo(self, folder: Folder, name: str) -> None:
        """Leave the file as it was: for who looked, and does not write here."""
        if self.before is None:
            folder.remove(name)
        else:
            system.CURRENT.truncate(self.handle, 0)
            write_all(self.handle, memoryview(self.before), 0)


def acquire(folder: Folder, name: str) -> Lock:
    """Lock the file `name`. Raises `output-in-use` with the holder's name where another has it."""
    for _ in range(ATTEMPTS):
        folder.make_sub(name.rpartition("/")[0])
        new = folder.status(name) is None
        try:
            handle = folder.open_file(name, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:  # the folder went away with its holder
            folder.forget(name.rpartition("/")[0])
            continue
        try:
            _lock(folder, name, handle)
            status = folder.status(name)
            if status is not None and os.path.samestat(status, system.CURRENT.fstat(handle)):
                lock = Lock(handle, None if new else system.CURRENT.pread(handle, LIMIT, 0))
                _sign(handle)
                return lock
        except BaseException:
            system.CURRENT.close(handle)
            raise
        system.CURRENT.close(handle)
        folder.forget(name.rpartition("/")[0])
    raise WeighbridgeError("output-in-use", "other processes come and go here all the time", str(folder.root), "let one of them end")


def _lock(folder: Folder, name: str, handle: int) -> None:
    try:
        system.CURRENT.lock(handle)
    except BlockingIOError:
        raise WeighbridgeError("output-in-use", _holder(handle), str(folder.root), "wait until it has ended, or name another folder") from None
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            raise
        raise WeighbridgeError("no-locks", f"this file system gives no locks ({error.strerror}), so a second writer cannot be kept away",
                               folder.where(name),
                               "name a folder on another file system, or mount it with locks (Lustre: -o flock)") from error


def _sign(handle: int) -> None:
    """Say who has it. The file stays short: a longer text of an earlier holder goes first."""
    holder = Holder(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))
    system.CURRENT.truncate(handle, 0)
    write_all(handle, memoryview(msgspec.json.encode(holder)), 0)


def _holder(handle: int) -> str:
    try:
        holder = msgspec.json.decode(system.CURRENT.pread(handle, LIMIT, 0), type=Holder)
    except (msgspec.DecodeError, RecursionError):  # it has not signed yet
        return "another conversion writes into this folder"
    return f"another conversion writes into this folder: process {holder.pid} on {holder.host[:100]!r}, since {holder.since[:40]}"
