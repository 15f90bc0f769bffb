"""A store whose files are elsewhere: first bytes are brought once, in parallel, and kept; on disk where they cannot change."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

from weighbridge.cachefolder import cache_root
from weighbridge.checkpoint.identity import Identity
from weighbridge.checkpoint.store import Span, fill_by_ranges
from weighbridge.errors import WeighbridgeError

FIRST = 128 << 10  # bytes; the longest header of a full-size M2 in 125 shards has 103 kB
WHOLE = 16 << 20  # bytes; the longest head that is kept
HELD = 512 << 20  # bytes of heads together
READ_LIMIT = 128 << 20  # bytes of one read; the largest header is 100 MB
THREADS = 16  # a request waits most of its time


class Answer(NamedTuple):
    """Bytes of one file, the size of all of it, and what names its version (an ETag, or the date of its last change); empty where nobody says."""

    data: bytes
    size: int
    version: str = ""


Fetch = Callable[[str, int, int], Answer]
Item = TypeVar("Item")
Value = TypeVar("Value")


class Remote:
    """A `Store` of which sizes are known, ranges are brought by `fetch`, and nothing has a local path.

    `fetch(file, offset, length)` brings that range, or raises. The head of a shard is its header; of another
    file, all of it up to `WHOLE`. The first read of one shard brings the heads of all, as a reader of headers
    wants them one after the other.
    """

    def __init__(self, label: str, sizes: dict[str, int], fetch: Fetch, disk: Disk | None = None, versions: dict[str, str] | None = None) -> None:
        self.label, self.sizes, self.fetch, self.disk = label, sizes, fetch, disk
        self.versions = versions if versions is not None else {}  # of each file the one that came first
        self.first: dict[str, bytes] = {}  # first bytes that came with the size
        self.kept: dict[str, bytes] = {}
        self.held = 0
        self.warm = False
        self.lock = threading.Lock()

    def files(self) -> dict[str, int]:
        """Size in bytes of every file."""
        return dict(sorted(self.sizes.items()))

    def path(self, file: str) -> Path | None:
        """None: conversion maps files, and these are not here."""
        return None

    def fill(self, file: str, spans: Iterable[Span]) -> None:
        fill_by_ranges(self, file, spans)

    def expect(self, file: str, now: Identity) -> None:
        """Nothing: no file is here whose state could be asked for."""

    def read(self, file: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, or fewer at the end.

        Raises `WeighbridgeError`: `not-found`, `read-too-large`, `source-changed`, and what `fetch` raises.
        """
        size = self.sizes.get(file)
        if size is None:
            raise WeighbridgeError("not-found", "no such file in this checkpoint", file)
        length = min(length, size - offset)
        if length <= 0:
            return b""
        if length > READ_LIMIT:
            raise WeighbridgeError("read-too-large", f"{length:,} bytes in one read, the limit is {READ_LIMIT:,}", file,
                                   "download the checkpoint")
        if offset >= FIRST and file not in self.kept:
            return self._range(file, offset, length)
        if file.endswith(".safetensors") and not self.warm:
            self._warm()
        have = self._head(file)[offset : offset + length]
        return have if len(have) == length else have + self._range(file, offset + len(have), length - len(have))

    def _range(self, file: str, offset: int, length: int) -> bytes:
        """A range of the same version of the file that all other ranges are of."""
        data, size, version = self.fetch(file, offset, length)
        first = self.versions.setdefault(file, version)
        if size != self.sizes[file] or len(data) != length:
            self._changed(file, f"had {self.sizes[file]:,} bytes, now {size:,}")
        if _bare(first) != _bare(version):
            self._changed(file, f"was version {first[:80]}, is now {version[:80] or 'without one'}")
        return data

    def _changed(self, file: str, message: str) -> NoReturn:
        raise WeighbridgeError("source-changed", f"the file changed while it was read: {message}", f"{self.label}/{file}", "run the command again")

    def _warm(self) -> None:
        with self.lock:
            if not self.warm:
                parallel(self._head, [f for f in self.sizes if f.endswith(".safetensors") and f not in self.kept])
                self.warm = True

    def _head(self, file: str) -> bytes:
        head = self.kept.get(file)
        if head is None:
            head = self.disk.get(file, self.sizes[file]) if self.disk else None
            if head is None:
                head = self._brought(file)
                if self.disk:
                    self.disk.put(file, self.sizes[file], head)
            if self.held + len(head) <= HELD:
                self.kept[file] = head
                self.held += len(head)
        return head

    def _brought(self, file: str) -> bytes:
        size, shard = self.sizes[file], file.endswith(".safetensors")
        head = self.first.pop(file, None)
        if head is None:
            head = self._range(file, 0, min(size, FIRST if shard else WHOLE)) if size else b""
        wanted = _header_end(head) if shard else size
        if wanted > WHOLE:  # a lie, or a file that is not read for its head
            return head
        wanted = min(wanted, size)
        return head[:wanted] if wanted <= len(head) else head + self._range(file, len(head), wanted - len(head))


def _bare(version: str) -> str:
    """An ETag without what differs between a listing and an answer, and between servers of one site."""
    return version.removeprefix("W/").strip('"')


def _header_end(head: bytes) -> int:
    """Where the header of a shard ends, at least 64 (what its reader asks for first)."""
    return max(64, 8 + struct.unpack("<Q", head[:8])[0]) if len(head) >= 8 else len(head)


def parallel(function: Callable[[Item], Value], items: Iterable[Item]) -> list[Value]:
    """`function` of each item, in order, over a few threads. The first error stops what has not begun."""
    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class Disk:
    """Heads of one immutable source below WEIGHBRIDGE_CACHE. The folder can be removed at any time.

    A file is the SHA-256 of the head, then the head: what is damaged is not used. A folder that cannot be
    written is no error.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        root = cache_root()
        self.root = root / "heads" if root is not None else None

    def _path(self, file: str, size: int) -> Path:
        if self.root is None:
            raise FileNotFoundError("no home")
        return self.root / hashlib.sha256(f"{self.source}\0{file}\0{size}".encode(errors="replace")).hexdigest()

    def get(self, file: str, size: int) -> bytes | None:
        """The head of `file`, or None."""
        try:
            raw = self._path(file, size).read_bytes()
        except OSError:
            return None
        return raw[32:] if hashlib.sha256(raw[32:]).digest() == raw[:32] else None

    def put(self, file: str, size: int, head: bytes) -> None:
        """Keep the head of `file`; another process never sees a part of it."""
        try:
            path = self._path(file, size)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, name = tempfile.mkstemp(dir=path.parent)
            try:
                with open(handle, "wb") as out:
                    out.write(hashlib.sha256(head).digest() + head)
                os.replace(name, path)
            except OSError:
                os.unlink(name)
        except OSError:
            return
