"""Where the files of a checkpoint are: a folder here, or somewhere that gives ranges of bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from weighbridge.checkpoint.identity import AGAIN, Identity, require_same
from weighbridge.errors import WeighbridgeError

Span = tuple[int, memoryview]  # an offset in a file, and memory for the bytes from there


class Store(Protocol):
    """A flat set of named files. Names use `/`; nothing outside the root can be named."""

    label: str

    def files(self) -> dict[str, int]:
        """Size in bytes of every file."""
        ...

    def read(self, file: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, or fewer at the end of the file."""
        ...

    def fill(self, file: str, spans: Iterable[Span]) -> None:
        """Read each span whole, and no byte more. Raises where the file ends before a span does."""
        ...

    def path(self, file: str) -> Path | None:
        """The local path, where there is one (conversion maps it)."""
        ...

    def expect(self, file: str, now: Identity) -> None:
        """Raise `source-changed` unless `now` is the file as it was when it was listed."""
        ...


class Folder:
    """A local folder. Links are followed, as the hub's cache is made of them.

    A file must stay what it was when it was listed: every read looks at its size and its time after the bytes are there, and raises
    `source-changed`. No descriptor stays open. The kernel is told not to read ahead: who reads scales or headers wants just these.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise WeighbridgeError("not-found", "no such folder", str(root), "give a folder that holds config.json and *.safetensors")
        self.root = root
        self.label = str(root)
        self.seen: dict[str, Identity] = {}

    def files(self) -> dict[str, int]:
        found: dict[str, Identity] = {}
        for sub in ("", "weights"):
            folder = self.root / sub
            if folder.is_dir():
                with os.scandir(folder) as entries:
                    found.update((f"{sub}/{e.name}" if sub else e.name, Identity.of(e.stat())) for e in entries if e.is_file())
        self.seen.update(found)
        return {file: found[file].size for file in sorted(found)}

    def read(self, file: str, offset: int, length: int) -> bytes:
        with self._open(file) as handle:
            return os.pread(handle, length, offset)

    def fill(self, file: str, spans: Iterable[Span]) -> None:
        missing = 0
        with self._open(file) as handle:
            for offset, view in spans:
                done = 0
                while done < len(view) and (got := os.preadv(handle, [view[done:]], offset + done)):
                    done += got
                missing += len(view) - done
        if missing:
            raise WeighbridgeError("source-changed", f"ends {missing:,} bytes before its header says", str(self.root / file), AGAIN)

    @contextmanager
    def _open(self, file: str) -> Iterator[int]:
        path = self.root / file
        try:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)
                yield handle
                self.expect(file, Identity.of(os.fstat(handle)))
            finally:
                os.close(handle)
        except OSError as error:
            raise WeighbridgeError("io", f"cannot be read: {error.strerror}", str(path)) from error

    def expect(self, file: str, now: Identity) -> None:
        require_same(self.root / file, self.seen.setdefault(file, now), now)

    def path(self, file: str) -> Path | None:
        return self.root / file


class OverlayStore:
    """A store with some of its (small) files replaced or added: the checkpoint as it would be with another configuration."""

    def __init__(self, store: Store, replaced: Mapping[str, bytes]) -> None:
        self.store, self.replaced = store, dict(replaced)
        self.label = store.label

    def files(self) -> dict[str, int]:
        return dict(sorted({**self.store.files(), **{file: len(content) for file, content in self.replaced.items()}}.items()))

    def read(self, file: str, offset: int, length: int) -> bytes:
        content = self.replaced.get(file)
        return self.store.read(file, offset, length) if content is None else content[offset : offset + length]

    def fill(self, file: str, spans: Iterable[Span]) -> None:
        if file in self.replaced:
            fill_by_ranges(self, file, spans)
        else:
            self.store.fill(file, spans)

    def path(self, file: str) -> Path | None:
        return None if file in self.replaced else self.store.path(file)

    def expect(self, file: str, now: Identity) -> None:
        self.store.expect(file, now)


def fill_by_ranges(store: Store, file: str, spans: Iterable[Span]) -> None:
    """`Store.fill` where there are no files."""
    for offset, view in spans:
        raw = store.read(file, offset, len(view))
        if len(raw) != len(view):
            raise WeighbridgeError("io", f"gave {len(raw):,} of {len(view):,} bytes from byte {offset:,} on", f"{store.label}: {file}",
                                   "run the command again")
        view[:] = raw


def unsafe_name(file: str) -> str | None:
    """Why a file name from an index must not be opened, or None."""
    if not file or "\0" in file:
        return "is empty or holds a zero byte"
    parts = PurePosixPath(file).parts
    if "\\" in file or file.startswith("/") or ".." in parts:
        return "leads out of the folder"
    if not file.endswith(".safetensors"):
        return "is not a .safetensors file"
    return None
