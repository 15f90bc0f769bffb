"""Whether files hold what a manifest says of them: there, of its size, with its hash."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from weighbridge.convert import manifest as manifests
from weighbridge.convert import system
from weighbridge.convert.hashing import hash_handle
from weighbridge.convert.inside import open_inside
from weighbridge.convert.manifest import MANIFEST, WORK, FileRecord
from weighbridge.convert.threads import thread_count
from weighbridge.errors import WeighbridgeError

Open = Callable[[str], int]  # a handle of a plain file, or an error
Progress = Callable[[int, int], None]


class Row(NamedTuple):
    """One file, and what is wrong with it (nothing where it is as recorded)."""

    name: str
    problem: str

    def asdict(self) -> dict[str, Any]:
        return {"name": self.name, "ok": not self.problem, "problem": self.problem or None}


def compare(records: dict[str, FileRecord], open_file: Open, known: Callable[[str, os.stat_result], bool] = lambda name, status: False,
            progress: Progress | None = None) -> list[Row]:
    """Each recorded file against what is there. What `known` says of a file spares its hash."""
    rows, done, total = [], 0, sum(record.bytes for record in records.values())
    with ThreadPoolExecutor(thread_count()) as pool:
        for name, record in records.items():
            rows.append(Row(name, _problem(name, record, open_file, known, pool)))
            done += record.bytes
            if progress:
                progress(done, total)
    return rows


def _problem(name: str, record: FileRecord, open_file: Open, known: Callable[[str, os.stat_result], bool], pool: ThreadPoolExecutor) -> str:
    try:
        handle = open_file(name)
    except FileNotFoundError:
        return "is missing"
    except WeighbridgeError as error:
        return error.first.message
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    try:
        status = system.CURRENT.fstat(handle)
        if status.st_size != record.bytes:
            return f"has {status.st_size:,} bytes, {record.bytes:,} were recorded"
        if known(name, status):
            return ""
        found = hash_handle(name, handle, pool)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    finally:
        system.CURRENT.close(handle)
    if found is None:
        return "its header is damaged"
    return "" if found == record.hash else f"its bytes are others: their hash is {found}, {record.hash} was recorded"


def verify_folder(root: Path, progress: Progress | None = None) -> dict[str, Any]:
    """The document of `verify D`: every file of the manifest of `root`, and weights that it does not name. Raises `manifest` where there is none."""
    raw = _manifest_bytes(root)
    manifest = manifests.decode(raw, str(root / MANIFEST))
    rows = [Row(MANIFEST, "" if manifests.sealed(raw) else "was changed after it was written: the hash of itself does not fit")]
    rows += compare(manifest.files, lambda name: open_inside(root, name), progress=progress)
    rows += [Row(name, "the manifest does not name it, a reader may load it") for name in _weights(root) if name not in manifest.files]
    return {"folder": str(root), "files": [row.asdict() for row in rows], "ok": not any(row.problem for row in rows)}


def _manifest_bytes(root: Path) -> bytes:
    try:
        handle = open_inside(root, MANIFEST)
    except FileNotFoundError:
        why = ("no such folder" if not root.is_dir() else "a conversion into this folder has not ended" if (root / WORK).exists() else
               "no manifest is here, so there is nothing to compare its files with")
        hint = "name a folder that `convert` made; or compare two checkpoints: weighbridge verify A B"
        raise WeighbridgeError("manifest", why, str(root), hint) from None
    except OSError as error:
        raise WeighbridgeError("manifest", f"cannot be opened: {error.strerror}", str(root / MANIFEST)) from error
    with os.fdopen(handle, "rb") as file:
        size = os.fstat(handle).st_size
        if size > manifests.LIMIT:
            raise WeighbridgeError("manifest", f"has {size:,} bytes, the limit is {manifests.LIMIT:,}", str(root / MANIFEST))
        return file.read(manifests.LIMIT)


def _weights(root: Path) -> list[str]:
    """Every weight file that a reader would find, in the folder and in its subfolder for ranks."""
    return sorted(str(path.relative_to(root)) for sub in ("", "weights") for path in (root / sub).glob("*.safetensors"))
