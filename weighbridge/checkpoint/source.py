"""From what a user types to a store: a folder, `org/name[@rev]`, `hf://`, `s3://`, `https://`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.store import Folder, Store
from weighbridge.errors import WeighbridgeError

_REPO = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?$")


def open_checkpoint(src: str | os.PathLike[str], *, lenient: bool = False) -> Checkpoint:
    """Open SRC and read its headers. Raises `Refused` with all findings where they cannot be read; `lenient` keeps them in `fatal`."""
    return Checkpoint(open_store(src), lenient=lenient)


def open_store(src: str | os.PathLike[str]) -> Store:
    text = os.fspath(src)
    if "://" in text:
        from weighbridge.checkpoint.remote import open_remote

        return open_remote(text)
    path = Path(os.path.expanduser(text))  # not Path.expanduser: it drops the `./` of `./~x` first
    if path.is_file():
        path = path.parent
    if path.is_dir():
        return Folder(path)
    if _REPO.match(text) and not text.startswith((".", "/")):
        from weighbridge.checkpoint.remote import open_remote

        return open_remote("hf://" + text)
    raise WeighbridgeError("not-found", "no such folder, and not the form of a repository (org/name[@rev])", text,
                           "give a folder, org/name, hf://…, https://… or s3://…")
