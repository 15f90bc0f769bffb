"""One state of a file, told from another without reading it; and the refusal of a file that changed while it was read."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from weighbridge.errors import WeighbridgeError

AGAIN = "run the command again when nothing writes to it any more"


class Identity(NamedTuple):
    """Size in bytes, time of the last write in nanoseconds, and inode of a file."""

    size: int
    written: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Identity:
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino)


def state(path: str | os.PathLike[str]) -> Identity:
    """What the file at `path` is now; raises `source-changed` where there is none any more."""
    try:
        return Identity.of(os.stat(path))
    except OSError as error:
        raise WeighbridgeError("source-changed", f"changed since it was opened: {error.strerror}", str(path), AGAIN) from error


def require_same(path: str | os.PathLike[str], then: Identity, now: Identity, *, held: bool = False) -> None:
    """Raise `source-changed` unless `now` is the state `then` of the file at `path`.

    The inode counts only for a file that is `held` (mapped): network file systems may give another number to a file that nobody holds.
    """
    if now.size != then.size:
        says = f"changed since it was opened: it had {then.size:,} bytes, now it has {now.size:,}"
    elif now.written != then.written:
        says = f"changed since it was opened: it was last written at {_clock(then.written)}, now at {_clock(now.written)}"
    elif held and now.inode != then.inode:
        says = f"changed since it was opened: another file has taken its place (inode {then.inode}, now {now.inode})"
    else:
        return
    raise WeighbridgeError("source-changed", says, str(path), AGAIN)


def _clock(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    try:
        return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06} UTC"
    except (ValueError, OverflowError, OSError):  # a file may bear any time
        return f"{nanoseconds} ns"
