"""The quick look: whether a file is the one that was hashed before, from its size, inode and times alone.

Such facts are of one machine, and two equal conversions must give equal folders, so they are kept in the user's cache, never in an output. Without
them, or where they do not fit, contents are hashed again: they save time and decide nothing else.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import time
from pathlib import Path

import msgspec

REST = 2_000_000_000  # nanoseconds that a file must have been at rest when it was looked at: a later change may fall into the same tick of its times
LIMIT = 64_000_000  # bytes


class Looks(msgspec.Struct):
    """What files looked like at one moment: {name: [size, inode, mtime_ns, ctime_ns]}. ctime cannot be set by a program, mtime can."""

    files: dict[str, list[int]]
    at: int = 0
    boot: str = ""

    @classmethod
    def now(cls, statuses: dict[str, os.stat_result]) -> Looks:
        return cls({name: facts(status) for name, status in statuses.items()}, time.time_ns(), boot_id())

    def same(self, name: str, status: os.stat_result) -> bool:
        """Whether a file is surely the one that was looked at. After a restart of the machine nothing is sure: bytes may have been lost."""
        known = self.files.get(name)
        return bool(self.boot) and self.boot == boot_id() and known == facts(status) and max(known[2:]) + REST < self.at


class Memory(msgspec.Struct):
    """A finished output and its source, as they were when their contents were last known. `manifest` is the hash of the output's manifest."""

    manifest: str
    output: Looks
    source: Looks


def facts(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def load(folder: Path, manifest: str) -> Memory:
    """What was seen of a finished folder; nothing where that is not known, or of another manifest."""
    nothing = Memory(manifest, Looks({}), Looks({}))
    try:
        with open(_file(folder), "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as handle:
            status = os.fstat(handle.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_size > LIMIT:
                return nothing
            known = msgspec.json.decode(handle.read(LIMIT), type=Memory)
    except (OSError, msgspec.DecodeError, RecursionError):
        return nothing
    return known if known.manifest == manifest else nothing


def save(folder: Path, memory: Memory) -> None:
    """Keep it for the next time. A cache that cannot be written costs that time, and nothing else."""
    file = _file(folder)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as fresh:
            fresh.write(msgspec.json.encode(memory))
        os.replace(fresh.name, file)
    except OSError:
        return


def _file(folder: Path) -> Path:
    root = Path(os.environ.get("WEIGHBRIDGE_CACHE") or "~/.cache/weighbridge").expanduser()
    return root / "looks" / (hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32] + ".json")


__all__ = ["Looks", "Memory", "boot_id", "facts", "load", "save"]
