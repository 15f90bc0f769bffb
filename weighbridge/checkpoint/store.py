"""Where the files of a checkpoint are: a folder here, or somewhere that gives ranges of bytes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol

from weighbridge.errors import WeighbridgeError


class Store(Protocol):
    """A flat set of named files. Names use `/`; nothing outside the root can be named."""

    label: str

    def files(self) -> dict[str, int]:
        """Size in bytes of every file."""
        ...

    def read(self, file: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, or fewer at the end of the file."""
        ...

    def path(self, file: str) -> Path | None:
        """The local path, where there is one (conversion maps it)."""
        ...


class Folder:
    """A local folder. Links are followed, as the hub's cache is made of them."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise WeighbridgeError("not-found", "no such folder", str(root), "give a folder that holds config.json and *.safetensors")
        self.root = root
        self.label = str(root)

    def files(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for sub in ("", "weights"):
            folder = self.root / sub
            if folder.is_dir():
                with os.scandir(folder) as entries:
                    found.update((f"{sub}/{e.name}" if sub else e.name, e.stat().st_size) for e in entries if e.is_file())
        return dict(sorted(found.items()))

    def read(self, file: str, offset: int, length: int) -> bytes:
        try:
            with open(self.root / file, "rb", buffering=0) as handle:
                return os.pread(handle.fileno(), length, offset)
        except OSError as error:
            raise WeighbridgeError("io", f"cannot be read: {error.strerror}", str(self.root / file)) from error

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

    def path(self, file: str) -> Path | None:
        return None if file in self.replaced else self.store.path(file)


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
