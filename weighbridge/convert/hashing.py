"""Content hashes of files: XXH3 with 128 bits, taken part by part, so that parts can be hashed in any order and by several threads.

The rule, which `verify D` and everybody else can compute again: a file is cut before each of its tensors (a file without tensors is one stretch),
and each stretch after every `PART` bytes. The hash of a part is XXH3-128 of its bytes. The hash of a file is XXH3-128 over the hashes of its parts
(16 bytes each, as `digest()` gives them) in their order; of a file of one part it is that part's, which `xxh128sum` prints, too.

XXH3 finds every accident (a flipped bit, a cut file, other weights). It is no signature: who can write the manifest can write a right hash into it.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any

import numpy as np
import xxhash

from weighbridge.checkpoint.header import read_header
from weighbridge.convert import system

NAME = "xxh3_128"
PART = 8 << 20  # bytes; a part that was just hashed is still in the processor's cache when a kernel reads it
Parts = list[tuple[int, int]]  # first byte and end of each part


def digest(data: bytes | memoryview | np.ndarray) -> bytes:
    return xxhash.xxh3_128_digest(data)


def file_hash(digests: list[bytes]) -> str:
    """The hash of a file from those of its parts, as hexadecimal digits."""
    return digests[0].hex() if len(digests) == 1 else digest(b"".join(digests)).hex()


def parts(cuts: Iterable[int], size: int) -> Parts:
    """The parts of a file of `size` bytes that is cut at `cuts` (0 is always one)."""
    edges = [*sorted({0, *cuts} - {size} | {0}), size]
    return [(first, min(first + PART, stop)) for begin, stop in zip(edges, edges[1:], strict=False)
            for first in range(begin, max(stop, begin + 1), PART)]


def parts_of(name: str, size: int, read: Callable[[int, int], bytes]) -> Parts | None:
    """The parts of a file on disk, by its own header where it has one; None where that header cannot be read."""
    if not name.endswith(".safetensors"):
        return parts((), size)
    try:
        header, _ = read_header(name, size, read)
    except (ValueError, RecursionError):  # damage can make anything of JSON
        return None
    return None if header is None else parts((t.start for t in header.tensors.values() if t.nbytes), size)


def hash_handle(name: str, handle: int, pool: Executor) -> str | None:
    """The hash of an open file; None where it is damaged so that its parts are not known."""
    def read(offset: int, length: int) -> bytes:
        return system.CURRENT.pread(handle, length, offset)

    found = parts_of(name, system.CURRENT.fstat(handle).st_size, read)
    return None if found is None else file_hash(list(pool.map(lambda part: part_digest(read, *part), found)))


def part_digest(read: Callable[[int, int], bytes], begin: int, stop: int) -> bytes:
    """The hash of bytes `begin` to `stop`, or of what is there of them."""
    running = xxhash.xxh3_128()
    while begin < stop and (piece := read(begin, min(stop - begin, PART))):
        running.update(piece)
        begin += len(piece)
    return running.digest()


class StreamHash:
    """The hash of one file that several threads write, taken from the bytes in their hands.

    Inside a tensor bytes must come in their order: `turn` lets the slabs of one tensor in one after the other. What comes otherwise, or not at all,
    is read back when the file is whole, so the hash is right for any way of writing.
    """

    def __init__(self, cuts: Iterable[int], size: int) -> None:
        self.parts = parts(cuts, size)
        self.starts = [begin for begin, _ in self.parts]
        self.running: list[Any] = [None] * len(self.parts)
        self.reached = list(self.starts)
        self.next: dict[int, int] = {}
        self.stopped = False
        self.waiting = threading.Condition()

    def feed(self, offset: int, data: np.ndarray | bytes) -> None:
        """Bytes that were written at `offset`. Two calls at once must be for different tensors."""
        view = memoryview(data).cast("B") if isinstance(data, bytes) else memoryview(data.reshape(-1).view(np.uint8))
        while len(view):
            number = bisect_right(self.starts, offset) - 1
            piece = view[: self.parts[number][1] - offset]
            if self.reached[number] == offset:
                if self.running[number] is None:
                    self.running[number] = xxhash.xxh3_128()
                self.running[number].update(piece)
                self.reached[number] = offset + len(piece)
            else:
                self.reached[number] = -1
            view, offset = view[len(piece):], offset + len(piece)

    def turn(self, tensor: int, number: int, work: Callable[[], None]) -> None:
        """Do `work` after that of slab `number - 1` of the same tensor. Returns without it where `stop` was called."""
        with self.waiting:
            self.waiting.wait_for(lambda: self.stopped or self.next.get(tensor, 0) == number)
            if self.stopped:
                return
        work()
        with self.waiting:
            self.next[tensor] = number + 1
            self.waiting.notify_all()

    def stop(self) -> None:
        """A slab failed: nobody may wait for it."""
        with self.waiting:
            self.stopped = True
            self.waiting.notify_all()

    def finish(self, read: Callable[[int, int], bytes]) -> str:
        """The hash of the whole file; `read(offset, length)` gives bytes of it again."""
        return file_hash([self.running[number].digest() if self.reached[number] == stop and stop > begin else part_digest(read, begin, stop)
                          for number, (begin, stop) in enumerate(self.parts)])


__all__ = ["NAME", "PART", "Parts", "StreamHash", "digest", "file_hash", "hash_handle", "part_digest", "parts", "parts_of"]
