"""The output folder: may it be used, what of it is done already, and when is it whole."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weighbridge.convert import journal, looks, system
from weighbridge.convert import manifest as manifests
from weighbridge.convert.slab import Loss
from weighbridge.convert.contents import Progress, compare
from weighbridge.convert.folder import PARTIAL, Folder
from weighbridge.convert.hashing import digest
from weighbridge.convert.lock import Lock, acquire
from weighbridge.convert.looks import Looks, boot_id
from weighbridge.convert.manifest import MANIFEST, WORK, FileRecord, Manifest
from weighbridge.convert.origin import Known, Origin
from weighbridge.errors import WeighbridgeError

LOCK = f"{WORK}/lock"
OWN = {WORK: ("journal.jsonl", "journal.jsonl" + PARTIAL, "lock")}  # what the work folder may hold


@dataclass
class Output:
    """A destination folder. Files appear under their names only when they are whole, and it is complete only when every file is as recorded.

    `names` are the files that this plan makes. In `done` are those that need not be made. Three states lead on: a new folder; an unfinished one,
    with the journal that says what is whole; a finished one of which files were lost (`finished` is its manifest then): these are made again and
    must come out the same.
    """

    root: Path
    plan: str
    names: list[str]
    origin: Origin
    sync: bool = False
    progress: Progress | None = None
    complete: bool = False
    done: dict[str, FileRecord] = field(default_factory=dict)
    again: dict[str, str] = field(default_factory=dict)  # files that were there and are made anew, and why
    finished: Manifest | None = None
    folder: Folder | None = None
    entries: dict[str, journal.Entry] = field(default_factory=dict)
    lock: Lock | None = None
    begun: bool = False

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self.lock is not None and self.folder is not None and not self.begun:
                self.lock.undo(self.folder, LOCK)
        except OSError:
            pass  # the text of the lock decides nothing
        finally:
            self._unlock()
            if self.folder is not None:
                self.folder.close()

    def _unlock(self) -> None:
        if self.lock is not None:
            system.CURRENT.close(self.lock.handle)
            self.lock = None

    def examine(self) -> None:
        """Look at what is there; nothing is written but the lock of a folder that is in work. Sets `complete` and `done`."""
        self.complete, self.done, self.again, self.entries, self.finished = False, {}, {}, {}, None
        if self.folder is None:
            self.folder = Folder.open(self.root)
        if self.folder is None:
            return
        self.folder.sync = self.sync
        self._require_other_than_source()
        held = self.folder.names()
        if WORK in held and self.lock is None:
            self.lock = acquire(self.folder, LOCK)
            held = self.folder.names()
        if MANIFEST in held and self._examine_finished():
            return
        if WORK not in held and MANIFEST not in held:
            if held:
                raise WeighbridgeError("output-not-empty", f"the output folder is not empty: it holds {len(held)} entries, the first is {held[0]!r}",
                                       str(self.root), "name a new folder, or empty this one")
            return
        found = self._journal()
        self._require_own(held)
        self._resume(found)

    def _require_other_than_source(self) -> None:
        assert self.folder is not None
        source = self.origin.path("config.json")
        if source and os.path.samestat(os.stat(source.parent), system.CURRENT.fstat(self.folder.folders[""])):
            raise WeighbridgeError("output-not-empty", "the output folder is the source itself", str(self.root), "name a new folder")

    def _examine_finished(self) -> bool:
        """Whether a manifest settles what is to do. One that was torn by a crash does not; one of another plan is refused."""
        assert self.folder is not None
        raw = self.folder.read(MANIFEST, manifests.LIMIT) or b""
        plan = manifests.plan_of(raw)
        if plan is not None and plan != self.plan:
            raise WeighbridgeError("output-not-empty", "a finished conversion of another source, layout, option or version is here",
                                   str(self.root / MANIFEST), "name a new folder, or remove this one")
        try:
            manifest = manifests.decode(raw, str(self.root / MANIFEST))
        except WeighbridgeError as error:
            self.again[MANIFEST] = error.first.message
            return False
        if not manifests.sealed(raw):
            self.again[MANIFEST] = "was changed after it was written"
            return False
        return self._compare(manifest, digest(raw).hex())

    def _compare(self, manifest: Manifest, output: str) -> bool:
        """A finished folder: its source must be the one that it was made from, and each of its files must be there as recorded."""
        assert self.folder is not None
        seen = looks.load(self.root, output)
        self.origin.require_same(manifest.source, seen.source, self.root, self.progress)
        if manifest.files.keys() != set(self.names):
            self.again[MANIFEST] = "names other files than those that this conversion makes"
            return False
        rows = compare(manifest.files, self.folder.open_file, seen.output.same, self.progress)
        self.again = {row.name: row.problem for row in rows if row.problem}
        self.done = {name: record for name, record in manifest.files.items() if name not in self.again}
        self.complete = not self.again
        self.finished = manifest
        for name in self.again:
            self.folder.require_file(name)
        if self.complete:
            self._bring_to_disk()
            self._clear()
            self._remember(output)
        return True

    def _require_own(self, held: list[str]) -> None:
        """Everything in an unfinished folder must be what this conversion makes there."""
        assert self.folder is not None
        for sub in ("", WORK, *sorted({name.rpartition("/")[0] for name in self.names} - {""})):
            known = OWN.get(sub) or {name.rpartition("/")[2] for name in [*self.names, MANIFEST] if name.rpartition("/")[0] == sub}
            folders = {name.split("/")[0] for name in self.names if "/" in name} | {WORK} if not sub else set()
            for name in held if not sub else self.folder.names(sub):
                if name in folders:
                    self.folder.names(name)
                elif name.removesuffix(PARTIAL) in known or name in known:
                    self.folder.require_file(f"{sub}/{name}" if sub else name)
                else:
                    raise WeighbridgeError("in-the-way", "this conversion does not make it, and the folder is not finished",
                                           self.folder.where(f"{sub}/{name}" if sub else name), "move it away, or name a new folder")

    def _journal(self) -> journal.Journal:
        assert self.folder is not None
        found = journal.read(self.folder, self.origin)
        if found.plan is not None and found.plan != self.plan:
            raise WeighbridgeError("other-plan", "an unfinished conversion of another source, layout, option or version is here",
                                   str(self.root), "finish it with its own command, or remove the folder")
        return found

    def _resume(self, found: journal.Journal) -> None:
        """What of an unfinished folder is whole: what the journal says, where the files have the bytes that it says."""
        assert self.folder is not None
        entries = {name: entry for name, entry in found.entries.items() if name in self.names}
        for entry in found.entries.values():
            self.origin.resume(entry.known, found.looks, self.root)
        rows = compare({name: entry.record for name, entry in entries.items()}, self.folder.open_file, progress=self.progress)
        for name, problem in rows:
            if problem:
                lost = "" if entries[name].boot == boot_id() else "; the machine was restarted since it was written"
                self.again[name] = problem + lost
            else:
                self.done[name] = entries[name].record
        self.entries = {name: entry for name, entry in entries.items() if name in self.done}
        for name in self.names:
            if name not in entries and self.folder.status(name) is not None:
                self.again[name] = "the journal does not say that it is whole"

    def begin(self, need: int) -> None:
        """Take the lock and write the journal. `need` bytes must be free. Looks at a new folder again, behind the lock."""
        parent = next(p for p in (self.root, *self.root.absolute().parents) if p.exists())
        free = system.CURRENT.free(str(parent))
        if need > free:
            raise _full(self.root, need, free)
        if self.lock is None:
            if self.folder is not None:
                self.folder.close()
            self.folder = Folder.make(self.root, self.sync)
            self.lock = acquire(self.folder, LOCK)
            self.examine()
        assert self.folder is not None
        if self.complete:
            return
        self.begun = True
        self._bring_to_disk()
        if self.finished is None:
            journal.begin(self.folder, self.plan, self.origin.looks, self.entries)

    def add(self, name: str, record: FileRecord, losses: dict[str, Loss], known: Known) -> None:
        """Record a whole file. Its name is its own already when this is called."""
        assert self.folder is not None
        if self.finished is None:
            self.entries[name] = journal.entry(record, losses, known)
            journal.add(self.folder, name, self.entries[name])
        self._settle(name, record)

    def _settle(self, name: str, record: FileRecord) -> None:
        stated = self.finished.files.get(name) if self.finished else record
        if stated != record:
            raise WeighbridgeError("remade-differs", f"was made anew and has the hash {record.hash}, the manifest says {stated and stated.hash}",
                                   str(self.root / name), "the manifest is of another machine or build: remove the folder and convert again")
        self.done[name] = record

    def add_sidecar(self, name: str, written: dict[str, Any]) -> None:
        self._settle(name, FileRecord(**written))

    def losses(self, order: list[str]) -> dict[str, Loss]:
        """What all files lost, added in a fixed order: the same numbers after an interruption."""
        total: dict[str, Loss] = {}
        for file in order:
            for name, loss in self.entries[file].losses.items():
                total.setdefault(name, Loss()).add(loss)
        return total

    def close(self, manifest: dict[str, Any] | None) -> None:
        """The manifest last but one, the end of the work folder last: only now is the output complete. None: the manifest is there."""
        assert self.folder is not None
        if manifest is not None:
            raw = manifests.encode(manifest)
            self.folder.put(MANIFEST, raw)
        else:
            raw = self.folder.read(MANIFEST, manifests.LIMIT) or b""
        self._clear()
        self._remember(digest(raw).hex())

    def _bring_to_disk(self) -> None:
        """With `sync`: what earlier runs made, and did not sync, is on disk before this one builds on it."""
        assert self.folder is not None
        if self.sync:
            self.folder.bring_to_disk([*self.done, *([MANIFEST] if self.finished else [])])

    def _clear(self) -> None:
        """Remove the work folder and what lies in it, the lock last."""
        assert self.folder is not None
        if self.folder.status(WORK) is None:
            return
        if self.lock is None:
            self.lock = acquire(self.folder, LOCK)
        self._require_own_work()
        for name in [*(name + PARTIAL for name in [*self.names, MANIFEST]), *(f"{WORK}/{name}" for name in OWN[WORK])]:
            if self.folder.require_file(name):
                self.folder.remove(name)
        # NFS keeps a file that is open under another name in its folder, so the handle goes first. Who took the folder meanwhile removes it.
        self._unlock()
        try:
            self.folder.remove_sub(WORK)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise

    def _require_own_work(self) -> None:
        assert self.folder is not None
        for name in self.folder.names(WORK):
            if name not in OWN[WORK]:
                raise WeighbridgeError("in-the-way", "no conversion makes it", self.folder.where(f"{WORK}/{name}"), "move it away")

    def _remember(self, output: str) -> None:
        """Keep a quick look of the folder and of its source for the next time."""
        assert self.folder is not None
        statuses = {name: status for name in self.done if (status := self.folder.status(name))}
        looks.save(self.root, looks.Memory(output, Looks.now(statuses), self.origin.looks))


def io_error(error: OSError, where: Path, need: int = 0) -> WeighbridgeError:
    """A failed call in true words. `need` are the bytes that are still to be written."""
    if error.errno == errno.EDQUOT:
        return WeighbridgeError("disk-full", f"this user's quota is used up; {need:,} bytes are still to be written", str(where),
                                "free some room, or name a folder on another disk; the same command goes on")
    if error.errno == errno.ENOSPC:
        existing = next(p for p in (where, *where.absolute().parents) if p.exists())
        return _full(where, need, system.CURRENT.free(str(existing)))
    return WeighbridgeError("io", f"cannot be written: {error.strerror or error}", str(where),
                            "check path, rights and disk; the same command goes on")


def _full(where: Path, need: int, free: int) -> WeighbridgeError:
    if need <= free:
        return WeighbridgeError("disk-full", f"the file system has no room, though it counts {free:,} free bytes and {need:,} are needed", str(where),
                                "look for a quota, a limit of inodes, or another writer; the same command goes on")
    return WeighbridgeError("disk-full", f"{need:,} bytes are needed, {free:,} are free", str(where),
                            "free some room, or name a folder on another disk")
