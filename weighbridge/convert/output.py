"""The output folder: may it be used, what of it is done already, and when is it whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import msgspec

from weighbridge.convert.apply import Loss
from weighbridge.errors import WeighbridgeError

MANIFEST = "weighbridge.json"
WORK = ".weighbridge"  # present while a folder is not complete
JOURNAL = "journal.jsonl"


class Output:
    """A destination folder and its journal. Files appear under their names only when they are whole.

    The journal names the plan and every finished file. A file that was not synced is trusted only within
    the boot in which it was written: after a crash of the machine it is written again.
    """

    def __init__(self, root: Path, digest: str) -> None:
        self.root, self.digest = root, digest
        self.done: dict[str, dict[str, Any]] = {}
        self.complete = False
        self._examine()

    @property
    def journal(self) -> Path:
        return self.root / WORK / JOURNAL

    def _examine(self) -> None:
        if not self.root.exists():
            return
        if not self.root.is_dir():
            raise WeighbridgeError("output-not-empty", "is a file, not a folder", str(self.root), "name a new folder")
        names = sorted(p.name for p in self.root.iterdir())
        if MANIFEST in names and _json(self.root / MANIFEST).get("plan") == self.digest:
            self.complete = True
            self._clear()  # a kill between the manifest and the end of the work folder
        elif self.journal.is_file() and self.journal.stat().st_size:
            self._resume()
        elif [n for n in names if n != WORK]:
            raise WeighbridgeError("output-not-empty", f"the output folder is not empty: it holds {len(names)} entries, the first is {names[0]!r}",
                                   str(self.root), "name a new folder, or empty this one")

    def _resume(self) -> None:
        lines = [line for line in self.journal.read_bytes().split(b"\n") if line]
        records = [r for r in (_parse(line) for line in lines) if r]
        if not records or records[0].get("plan") != self.digest:
            raise WeighbridgeError("other-plan", "an unfinished conversion of another source, layout, option or version is here",
                                   str(self.root), "finish it with its own command, or remove the folder")
        boot = boot_id()
        for record in records[1:]:
            path = self.root / str(record.get("file"))
            trusted = record.get("synced") or record.get("boot") == boot
            if trusted and _sums(record.get("losses")) and path.is_file() and path.stat().st_size == record.get("size"):
                self.done[str(record["file"])] = record

    def _clear(self) -> None:
        if (self.root / WORK).is_dir():
            for leftover in (self.root / WORK).iterdir():
                leftover.unlink()
            (self.root / WORK).rmdir()

    def begin(self, need: int) -> None:
        """Create the folder and the journal, after a look at the free space."""
        parent = next(p for p in (self.root, *self.root.parents) if p.exists())
        try:
            free = os.statvfs(parent)
            available = free.f_bavail * free.f_frsize
            if need > available:
                raise _full(self.root, need, available)
            (self.root / WORK).mkdir(parents=True, exist_ok=True)
            # Written anew: the last line of a killed run may be torn, and nothing may be added behind it.
            lines = [{"plan": self.digest}, *self.done.values()]
            fresh = self.journal.with_suffix(".new")
            fresh.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
            fresh.replace(self.journal)
        except OSError as error:
            raise io_error(error, self.root, need) from error

    def finished(self, file: str, size: int, losses: dict[str, Loss], synced: bool) -> None:
        """Record a whole file. Its name is its own already when this is called."""
        record = {"file": file, "size": size, "synced": synced, "boot": boot_id(),
                  "losses": {name: vars(loss) for name, loss in losses.items()}}
        self.done[file] = record
        with open(self.journal, "ab") as handle:
            handle.write(msgspec.json.encode(record) + b"\n")

    def losses(self, order: list[str]) -> dict[str, Loss]:
        """What all files lost, added in a fixed order: the same numbers after an interruption."""
        total: dict[str, Loss] = {}
        for file in order:
            for name, sums in self.done[file]["losses"].items():
                total.setdefault(name, Loss()).add(Loss(**sums))
        return total

    def close(self, manifest: dict[str, Any]) -> None:
        """The manifest last but one, the end of the work folder last: only now is the output complete."""
        write_json(self.root / MANIFEST, manifest)
        self._clear()


def _sums(told: Any) -> bool:
    """Whether a record's losses have the form that `finished` writes."""
    return isinstance(told, dict) and all(isinstance(v, dict) and v.keys() == vars(Loss()).keys() for v in told.values())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file under its name only when it is whole."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    partial.replace(path)


def io_error(error: OSError, where: Path, need: int = 0) -> WeighbridgeError:
    if error.errno == errno.ENOSPC:
        free = os.statvfs(where if where.exists() else where.parent)
        return _full(where, need, free.f_bavail * free.f_frsize)
    return WeighbridgeError("io", f"cannot be written: {error.strerror or error}", str(where), "check path, rights and disk")


def _full(where: Path, need: int, free: int) -> WeighbridgeError:
    return WeighbridgeError("disk-full", f"{need:,} bytes are needed, {free:,} are free", str(where), "free some room, or name a folder on another disk")


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _json(path: Path) -> dict[str, Any]:
    return _parse(path.read_bytes()) or {}


def _parse(line: bytes) -> dict[str, Any] | None:
    """A record of the journal, or None for the torn last line of a killed run."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
