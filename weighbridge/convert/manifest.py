"""The manifest of an output, `weighbridge.json`: written with a hash of itself, and read as a file that anybody may have written."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from weighbridge.convert import hashing
from weighbridge.errors import WeighbridgeError

MANIFEST = "weighbridge.json"
WORK = ".weighbridge"  # a folder that is there while an output is not complete
SCHEMA = "weighbridge.manifest/1"
LIMIT = 64_000_000  # bytes
NAME_LIMIT = 1_024  # characters
HASHES = {"name": hashing.NAME, "part_bytes": hashing.PART}
_UNSEALED = "0" * 32
_SEAL = re.compile(rb'"seal": "([0-9a-f]{32})"\n}\n\Z')

Size = Annotated[int, Meta(ge=0, le=1 << 62)]
Digits = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class FileRecord(msgspec.Struct):
    """One file: its size in bytes and the hash of its content (convert/hashing.py has the rule)."""

    bytes: Size
    hash: Digits


class SourceRecord(msgspec.Struct):
    """The files that an output was made from: those with weights, and the small ones beside them."""

    files: dict[str, FileRecord]
    beside: dict[str, FileRecord]


class Manifest(msgspec.Struct):
    """What an output says of its own files. Names in it are safe to open below the folder."""

    plan: str
    files: dict[str, FileRecord]
    source: SourceRecord
    hashes: dict[str, str | int]


def encode(content: dict[str, Any]) -> bytes:
    """The bytes of a manifest. Its last key, `seal`, is XXH3-128 of the file with 32 zeros in that place."""
    blank = msgspec.json.format(msgspec.json.encode({**content, "hashes": HASHES, "seal": _UNSEALED}), indent=2) + b"\n"
    end = blank.rindex(_UNSEALED.encode())
    return blank[:end] + hashing.digest(blank).hex().encode() + blank[end + len(_UNSEALED):]


def sealed(raw: bytes) -> bool:
    """Whether the bytes of a manifest are those that were written."""
    found = _SEAL.search(raw)
    return found is not None and hashing.digest(raw[: found.start(1)] + _UNSEALED.encode() + raw[found.end(1):]).hex() == found[1].decode()


def plan_of(raw: bytes) -> str | None:
    """The plan that a manifest names ("" for JSON that is no manifest), or None where it is torn."""
    try:
        stated = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return str(stated.get("plan", "")) if isinstance(stated, dict) else ""


def decode(raw: bytes, where: str) -> Manifest:
    """Read a manifest. Raises `manifest` with the reason where it is none that this version can check."""
    again = "convert again into a new folder"
    try:
        stated = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        schema = msgspec.json.decode(stated.get("schema", b"null"))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise WeighbridgeError("manifest", f"is not JSON: {error}", where, again) from error
    if schema != SCHEMA:
        raise WeighbridgeError("manifest", f"its schema is {str(schema)[:80]!r}, {SCHEMA} is known", where, again)
    if "hashes" not in stated:
        raise WeighbridgeError("manifest", "it holds no hashes: an earlier version wrote it", where, again)
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise WeighbridgeError("manifest", f"does not have the form of a manifest: {error}", where, again) from error
    if manifest.hashes != HASHES:
        raise WeighbridgeError("manifest", f"its hashes are {str(manifest.hashes)[:100]}, {HASHES} is known", where,
                               "check it with the version that wrote it")
    for name in manifest.files:
        bad = unsafe(name)
        if bad:
            raise WeighbridgeError("manifest", f"it names {name[:200]!r}, which {bad}", where,
                                   "do not use this folder: no conversion writes such a name")
    return manifest


def unsafe(name: str) -> str | None:
    """Why a file name of a manifest must not be opened, or None."""
    words = name.split("/")
    if name.startswith("/") or ".." in words:
        return "leads out of the folder"
    if len(name) > NAME_LIMIT or not name.isprintable() or "\\" in name or any(w in ("", ".") for w in words):
        return "is no plain name of a file"
    return "is not of the finished output" if words[0] in (WORK, MANIFEST) else None
