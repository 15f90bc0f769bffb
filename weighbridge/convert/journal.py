"""The journal of an unfinished output: which plan, from which source, and which files are whole. Nothing is believed without a look at the files."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from weighbridge.convert.slab import Loss
from weighbridge.convert.folder import Folder
from weighbridge.convert.looks import Looks, boot_id
from weighbridge.convert.manifest import WORK, FileRecord
from weighbridge.convert.origin import Known, Origin

NAME = f"{WORK}/journal.jsonl"
LIMIT = 1 << 30  # bytes


class Entry(NamedTuple):
    """A file that was whole when this was written."""

    record: FileRecord
    losses: dict[str, Loss]
    known: Known  # hashes of the parts of the source that were first read for this file
    boot: str

    def line(self, file: str) -> dict[str, Any]:
        return {"file": file, "size": self.record.bytes, "hash": self.record.hash, "boot": self.boot,
                "losses": {name: vars(loss) for name, loss in self.losses.items()}, "source": self.known}


class Journal(NamedTuple):
    """What could be read. `plan` is None where not even the first line could: torn, empty, or not there."""

    plan: str | None
    looks: Looks
    entries: dict[str, Entry]


def read(folder: Folder, origin: Origin) -> Journal:
    """Read it leniently: a line that is torn or strange says nothing."""
    lines = (folder.read(NAME, LIMIT) or b"").split(b"\n")
    head = _object(lines[0])
    if head is None or not isinstance(head.get("plan"), str):
        return Journal(None, Looks({}), {})
    entries = {}
    for line in lines[1:]:
        stated = _object(line) or {}
        entry = _entry(stated, origin)
        if entry and isinstance(stated.get("file"), str):
            entries[stated["file"]] = entry
    try:
        looks = msgspec.convert(head.get("source"), Looks)
    except msgspec.ValidationError:
        looks = Looks({})
    return Journal(head["plan"], looks, entries)


def _entry(stated: dict[str, Any], origin: Origin) -> Entry | None:
    try:
        record = msgspec.convert({"bytes": stated.get("size"), "hash": stated.get("hash")}, FileRecord)
    except msgspec.ValidationError:
        return None
    if not _sums(stated.get("losses")) or not origin.readable(stated.get("source")):
        return None
    return Entry(record, {name: Loss(**sums) for name, sums in stated["losses"].items()}, stated["source"], str(stated.get("boot")))


def _sums(stated: Any) -> bool:
    """Whether a record's losses have the form that `Entry.line` writes."""
    return isinstance(stated, dict) and all(
        isinstance(sums, dict) and sums.keys() == vars(Loss()).keys() and all(type(number) in (int, float) for number in sums.values())
        for sums in stated.values())


def begin(folder: Folder, plan: str, looks: Looks, entries: dict[str, Entry]) -> None:
    """Write it anew: the last line of a killed run may be torn, and nothing may be added behind it."""
    lines = [{"plan": plan, "source": looks}, *(entry.line(file) for file, entry in entries.items())]
    folder.put(NAME, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def add(folder: Folder, file: str, entry: Entry) -> None:
    folder.append(NAME, msgspec.json.encode(entry.line(file)) + b"\n")


def entry(record: FileRecord, losses: dict[str, Loss], known: Known) -> Entry:
    return Entry(record, losses, known, boot_id())


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else None
