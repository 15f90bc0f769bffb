"""A disk that loses power: the calls of a run are recorded, and every state that a file system may keep of them is laid out in a folder.

Two models. *Strict* is what POSIX promises: the entries of a folder are kept up to its last fsync, and any more of them up to the cut; the bytes of
a file are kept as at its last fsync, and beyond that anything. *Ordered* is what journals do (ext4, XFS, btrfs): changes of entries come in their
order, up to any one; the bytes of files that were not synced are anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from weighbridge.convert.system import System

Tree = dict[str, bytes | None]  # path to bytes; None for a folder
LOSSES: dict[str, Callable[[bytes, bytes], bytes]] = {  # bytes at the last fsync and bytes in memory to bytes on the disk
    "all there": lambda synced, now: now,
    "as synced": lambda synced, now: synced,
    "zeros": lambda synced, now: synced if synced == now else bytes(len(now)),
    "torn": lambda synced, now: synced if synced == now else now[: len(now) // 2],
}


@dataclass
class Change:
    """One change of a folder's entries: `new` has the content with the number `inode` (a folder: its number), or `old` is gone."""

    folder: int
    new: str = ""
    old: str = ""
    inode: int = 0


@dataclass
class Disk:
    """The record of one run. Contents have numbers; so has every folder that ever was."""

    top: Path
    changes: list[Change] = field(default_factory=list)
    bytes: dict[int, bytes] = field(default_factory=dict)  # of files
    synced: dict[int, bytes] = field(default_factory=dict)
    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {0: {}})
    durable: dict[int, int] = field(default_factory=dict)  # folder: how many of all changes were there at its last fsync
    handles: dict[int, int] = field(default_factory=dict)
    moments: list[tuple[int, dict[int, bytes], dict[int, bytes], dict[int, int]]] = field(default_factory=list)
    outside: set[int] = field(default_factory=set)

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> Callable[[], Any] | None:
        record = getattr(self, "_" + name, None)
        if record is None:
            return None

        def call() -> Any:
            result = record(*arguments)
            self.moments.append((len(self.changes), dict(self.bytes), dict(self.synced), dict(self.durable)))
            return result

        return call

    def _place(self, name: str, at: int | None) -> tuple[int, str] | None:
        """Number of the folder and name in it, or None for what lies above the disk."""
        if at is not None:
            return self.handles[at], name
        path = Path(name).absolute()
        if path == self.top:
            return 0, ""
        if not path.is_relative_to(self.top):
            return None
        folder = 0
        *between, last = path.relative_to(self.top).parts
        for part in between:
            folder = self.folders[folder][part]
        return folder, last

    def _change(self, change: Change) -> None:
        entries = self.folders[change.folder]
        if change.old:
            entries.pop(change.old)
        if change.new:
            entries[change.new] = change.inode
        self.changes.append(change)

    def _new(self) -> int:
        return 1 + max([*self.bytes, *self.folders])

    def _open(self, name: str, flags: int, at: int | None) -> int:
        handle = System().open(name, flags, at)
        place = self._place(name, at)
        self.outside.discard(handle)
        if place is None:
            self.outside.add(handle)
            return handle
        folder, leaf = place
        if leaf and leaf not in self.folders[folder]:
            inode = self._new()
            self.bytes[inode], self.synced[inode] = b"", b""
            self._change(Change(folder, leaf, inode=inode))
        self.handles[handle] = self.folders[folder][leaf] if leaf else 0
        return handle

    def _mkdir(self, name: str, at: int | None) -> None:
        System().mkdir(name, at)
        folder, leaf = self._place(name, at)  # type: ignore[misc]
        inode = self._new()
        self.folders[inode] = {}
        self._change(Change(folder, leaf, inode=inode))

    def _pwrite(self, handle: int, data: memoryview, offset: int) -> int:
        System().pwrite(handle, data, offset)
        inode = self.handles[handle]
        old = self.bytes[inode].ljust(offset, b"\0")
        self.bytes[inode] = old[:offset] + bytes(data) + old[offset + len(data):]
        return len(data)

    def _write(self, handle: int, data: memoryview) -> int:
        System().write(handle, data)
        self.bytes[self.handles[handle]] += bytes(data)
        return len(data)

    def _truncate(self, handle: int, size: int) -> None:
        System().truncate(handle, size)
        self.bytes[self.handles[handle]] = self.bytes[self.handles[handle]][:size].ljust(size, b"\0")

    def _allocate(self, handle: int, size: int) -> None:
        self._truncate(handle, size)

    def _fsync(self, handle: int) -> None:
        if handle in self.outside:
            return
        inode = self.handles[handle]
        if inode in self.folders:
            self.durable[inode] = len(self.changes)
        else:
            self.synced[inode] = self.bytes[inode]

    def _rename(self, old: str, new: str, at: int) -> None:
        System().rename(old, new, at)
        folder = self.handles[at]
        self._change(Change(folder, new, old, self.folders[folder][old]))

    def _unlink(self, name: str, at: int) -> None:
        System().unlink(name, at)
        self._change(Change(self.handles[at], old=name))

    def _rmdir(self, name: str, at: int) -> None:
        System().rmdir(name, at)
        self._change(Change(self.handles[at], old=name))

    def strict(self, moment: int) -> Iterator[Tree]:
        """Every state after the call `moment`: each folder as at its last fsync or as it was in memory, files in each way of losing bytes."""
        count, now, synced, durable = self.moments[moment]
        numbers = sorted({change.folder for change in self.changes[:count]})
        for kept in product((False, True), repeat=len(numbers)):
            limits = {folder: count if all_of_it else durable.get(folder, 0) for folder, all_of_it in zip(numbers, kept, strict=True)}
            yield from self._trees(limits, now, synced)

    def ordered(self, moment: int) -> Iterator[Tree]:
        """The state after the call `moment`, with all changes of entries up to there, and with bytes up to there or up to the end."""
        count, now, synced, _ = self.moments[moment]
        limits = dict.fromkeys({change.folder for change in self.changes}, count)
        yield from self._trees(limits, now, synced)
        yield from self._trees(limits, self.moments[-1][1], synced)

    def _trees(self, limits: dict[int, int], now: dict[int, bytes], synced: dict[int, bytes]) -> Iterator[Tree]:
        folders: dict[int, dict[str, int]] = {number: {} for number in self.folders}
        for place, change in enumerate(self.changes):
            if place < limits.get(change.folder, 0):
                if change.old:
                    folders[change.folder].pop(change.old, None)
                if change.new:
                    folders[change.folder][change.new] = change.inode
        for loss in LOSSES.values():
            tree: Tree = {}
            self._lay(folders, 0, "", tree, lambda inode, loss=loss: loss(synced.get(inode, b""), now.get(inode, b"")))
            yield tree

    def _lay(self, folders: dict[int, dict[str, int]], number: int, path: str, tree: Tree, content: Callable[[int], bytes]) -> None:
        for name, inode in folders[number].items():
            below = f"{path}/{name}" if path else name
            if inode in folders:
                tree[below] = None
                self._lay(folders, inode, below, tree, content)
            else:
                tree[below] = content(inode)


def lay_out(tree: Tree, top: Path) -> None:
    """Make the folder that a restarted machine would find."""
    top.mkdir()
    for name, data in tree.items():
        if data is None:
            os.mkdir(top / name)
        else:
            (top / name).write_bytes(data)
