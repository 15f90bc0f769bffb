"""A destination folder: its files are made, read and removed without following a link, and only where nothing foreign is in the way."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from weighbridge.convert import system
from weighbridge.convert.system import BESIDE, allocate, write_all
from weighbridge.errors import WeighbridgeError

PARTIAL = ".partial"  # end of the name of a file that is not whole
FOLDER = os.O_RDONLY | os.O_DIRECTORY | BESIDE


class Folder:
    """An open folder. Names may have subfolders (`weights/a`); each part of a name is opened from the one before it, never by path.

    Raises `WeighbridgeError` `in-the-way` where an entry is not what a conversion makes, and lets `OSError` through.
    """

    def __init__(self, root: Path, handle: int, sync: bool = False) -> None:
        self.root, self.sync = root, sync
        self.folders: dict[str, int] = {"": handle}

    @classmethod
    def open(cls, root: Path) -> Folder | None:
        """The folder `root`, or None where there is nothing. The last part of `root` may be a link: the user names it."""
        try:
            return cls(root, system.CURRENT.open(str(root), os.O_RDONLY | os.O_DIRECTORY, None))
        except FileNotFoundError:
            if root.is_symlink():
                raise WeighbridgeError("output-not-empty", "is a link that leads to nothing", str(root), "name a new folder") from None
            return None
        except NotADirectoryError:
            raise WeighbridgeError("output-not-empty", "is a file, not a folder", str(root), "name a new folder") from None

    @classmethod
    def make(cls, root: Path, sync: bool) -> Folder:
        """Make `root` and the folders above it; `bring_to_disk` is the caller's."""
        for path in reversed([p for p in (root, *root.parents) if not p.exists()]):
            try:
                system.CURRENT.mkdir(str(path), None)
            except FileExistsError:  # another process was faster, or it is a link that leads to nothing: `open` says so
                continue
        found = cls.open(root)
        if found is None:
            raise FileNotFoundError(2, "vanished while it was made", str(root))
        found.sync = sync
        return found

    def close(self) -> None:
        for handle in self.folders.values():
            system.CURRENT.close(handle)
        self.folders.clear()

    def where(self, name: str) -> str:
        """The path of an entry, for a message."""
        return str(self.root / name)

    def names(self, sub: str = "") -> list[str]:
        """Names of the entries of a subfolder; nothing where it is not there."""
        handle = self._folder(sub)
        return [] if handle is None else system.CURRENT.names(handle)

    def status(self, name: str) -> os.stat_result | None:
        """What an entry is (of a link: the link), or None."""
        parent, leaf = self._place(name)
        try:
            return None if parent is None else system.CURRENT.lstat(leaf, parent)
        except FileNotFoundError:
            return None

    def require_file(self, name: str) -> bool:
        """Whether a file is there that may be replaced; refuses anything else under that name."""
        status = self.status(name)
        if status is None:
            return False
        self._require_plain(name, status)
        return True

    def _require_plain(self, name: str, status: os.stat_result, shared: bool = False) -> None:
        """`shared`: it is only read, so it may have a second name."""
        what = _kind(status)
        if what and not (shared and stat.S_ISREG(status.st_mode)):
            raise WeighbridgeError("in-the-way", f"is {what}; a conversion makes plain files and follows nothing", self.where(name),
                                   "look where it comes from and remove it, or name a new folder")
        if status.st_uid != os.geteuid() and status.st_uid != system.CURRENT.fstat(self.folders[""]).st_uid:
            raise WeighbridgeError("in-the-way", f"belongs to user {status.st_uid}, this process is user {os.geteuid()}", self.where(name),
                                   "name a new folder")

    def make_sub(self, sub: str) -> None:
        """Make a subfolder where it is not there."""
        parent, leaf = self._place(sub)
        assert parent is not None
        try:
            system.CURRENT.mkdir(leaf, parent)
        except FileExistsError:
            pass
        self._folder(sub)
        if self.sync:
            system.CURRENT.fsync(parent)

    def read(self, name: str, limit: int) -> bytes | None:
        """The bytes of a small file that a conversion made, or None where there is none."""
        if not self.require_file(name):
            return None
        handle = self.open_file(name)
        try:
            size = system.CURRENT.fstat(handle).st_size
            if size > limit:
                raise WeighbridgeError("in-the-way", f"has {size:,} bytes, the limit is {limit:,}", self.where(name),
                                       "remove it, or name a new folder")
            data = b""
            while piece := system.CURRENT.pread(handle, limit + 1 - len(data), len(data)):
                data += piece
            return data
        finally:
            system.CURRENT.close(handle)

    def open_file(self, name: str, flags: int = os.O_RDONLY) -> int:
        """A handle of a plain file. Raises `in-the-way` for anything else, `FileNotFoundError` where there is nothing."""
        parent, leaf = self._place(name)
        if parent is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.where(name))
        try:
            handle = system.CURRENT.open(leaf, flags | BESIDE, parent)
        except OSError:
            self.require_file(name)  # a link or a socket cannot be opened: say what it is
            raise
        try:
            self._require_plain(name, system.CURRENT.fstat(handle), shared=flags == os.O_RDONLY)
        except BaseException:
            system.CURRENT.close(handle)
            raise
        return handle

    def create(self, name: str, size: int = 0) -> int:
        """A new file `NAME.partial` with room for `size` bytes; what a killed run left under that name goes away first."""
        self.require_file(name)
        partial = name + PARTIAL
        if self.require_file(partial):
            self.remove(partial)
        parent, leaf = self._place(partial)
        if parent is None:
            self.make_sub(name.rpartition("/")[0])
            parent, leaf = self._place(partial)
        handle = system.CURRENT.open(leaf, os.O_RDWR | os.O_CREAT | os.O_EXCL | BESIDE, parent)
        try:
            allocate(handle, size)
        except BaseException:
            system.CURRENT.close(handle)
            raise
        return handle

    def shut(self, handle: int) -> None:
        system.CURRENT.close(handle)

    def publish(self, name: str, handle: int) -> None:
        """Give the partial file its name. With `sync` its bytes are on disk before, and its name after."""
        if self.sync:
            system.CURRENT.fsync(handle)
        self.require_file(name)
        parent, leaf = self._place(name)
        assert parent is not None
        system.CURRENT.rename(leaf + PARTIAL, leaf, parent)
        if self.sync:
            system.CURRENT.fsync(parent)

    def put(self, name: str, data: bytes) -> None:
        """A small file, under its name only when it is whole."""
        handle = self.create(name)
        try:
            write_all(handle, memoryview(data))
            self.publish(name, handle)
        finally:
            system.CURRENT.close(handle)

    def append(self, name: str, data: bytes) -> None:
        handle = self.open_file(name, os.O_WRONLY | os.O_APPEND)
        try:
            write_all(handle, memoryview(data))
            if self.sync:
                system.CURRENT.fsync(handle)
        finally:
            system.CURRENT.close(handle)

    def bring_to_disk(self, names: list[str]) -> None:
        """With `sync`: these files, the folders in which they lie, and all folders above, whoever made them."""
        if not self.sync:
            return
        for name in names:
            handle = self.open_file(name)
            try:
                system.CURRENT.fsync(handle)
            finally:
                system.CURRENT.close(handle)
        for handle in self.folders.values():
            system.CURRENT.fsync(handle)
        for path in self.root.absolute().parents:
            _sync_above(path)

    def remove(self, name: str) -> None:
        parent, leaf = self._place(name)
        if parent is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.where(name))
        system.CURRENT.unlink(leaf, parent)

    def forget(self, sub: str) -> None:
        """Open `sub` again at its next use: it may have been removed and made again."""
        if sub in self.folders:
            system.CURRENT.close(self.folders.pop(sub))

    def remove_sub(self, sub: str) -> None:
        """Remove an empty subfolder; that it is gone is on disk with `sync`."""
        parent, leaf = self._place(sub)
        assert parent is not None
        system.CURRENT.rmdir(leaf, parent)
        self.forget(sub)
        if self.sync:
            system.CURRENT.fsync(parent)

    def _place(self, name: str) -> tuple[int | None, str]:
        """The open folder of an entry (None where it is not there), and the last part of its name."""
        sub, _, leaf = name.rpartition("/")
        if leaf in ("", ".", "..") or "\0" in leaf:
            raise WeighbridgeError("in-the-way", f"{name!r} is no name of a file", str(self.root))
        return self._folder(sub), leaf

    def _folder(self, sub: str) -> int | None:
        if sub in self.folders:
            return self.folders[sub]
        parent, leaf = self._place(sub)
        if parent is None:
            return None
        try:
            self.folders[sub] = system.CURRENT.open(leaf, FOLDER, parent)
        except FileNotFoundError:
            return None
        except OSError:
            what = _kind(system.CURRENT.lstat(leaf, parent)) or "a file"
            if what == "a folder":
                raise
            raise WeighbridgeError("in-the-way", f"is {what}, where this conversion has a folder", self.where(sub),
                                   "look where it comes from and remove it, or name a new folder") from None
        return self.folders[sub]


def _kind(status: os.stat_result) -> str:
    """What an entry is, in words; nothing for a plain file with one name."""
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return f"one of {status.st_nlink} names (hard links) of one file" if status.st_nlink > 1 else ""
    kinds = ((stat.S_ISLNK, "a link"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((word for test, word in kinds if test(mode)), "a device")


def _sync_above(path: Path) -> None:
    """Bring the entries of a folder above the destination to the disk. One that this user may not read was not made by this user."""
    try:
        handle = system.CURRENT.open(str(path), os.O_RDONLY | os.O_DIRECTORY, None)
    except PermissionError:
        return
    try:
        system.CURRENT.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has nothing to sync
            raise
    finally:
        system.CURRENT.close(handle)
