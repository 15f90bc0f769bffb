"""Flags that mean the same in several verbs, and how they become options."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from weighbridge.errors import Usage
from weighbridge.layouts.accepted import CHOICES
from weighbridge.layouts.choice import DEVICES
from weighbridge.layouts.rows import READERS

if TYPE_CHECKING:
    from weighbridge.check.case import Case

    To = Reader = Device = str
else:  # the command line offers what the rows have
    To, Reader, Device = Literal[CHOICES], Literal[READERS], Literal[tuple(DEVICES)]
ScaleDtype = Literal["F32", "BF16", "F16", "E8M0"]


def block_or_auto(text: str | None) -> tuple[int, int] | str | None:
    """`--block` of a destination: rows,columns, or `auto`."""
    return text if text == "auto" else block(text)


def block(text: str | None) -> tuple[int, int] | None:
    """`128,128` or `128x128` as (rows, columns)."""
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if len(parts) != 2 or not all(p.strip().isdigit() and int(p) > 0 for p in parts):
        raise Usage(f"{text!r} is not rows,columns", "--block", "write --block 128,128")
    return int(parts[0]), int(parts[1])


def allowed(words: tuple[str, ...] | list[str] | None) -> tuple[str, ...]:
    """`--allow a,b --allow c` as ("a", "b", "c")."""
    return tuple(w.strip() for word in words or () for w in word.split(",") if w.strip())


def options(**given: Any) -> dict[str, Any]:
    """Only what the user gave: the layout fills in the rest."""
    return {name: value for name, value in given.items() if value is not None and value != 0 and value != "" and value != ()}


def layers(text: str | None) -> tuple[int, int] | None:
    """`2:4` (or `2,4`) as (2, 4): layers 2 and 3. `4` as (0, 4)."""
    if text is None:
        return None
    parts = text.replace(":", ",").split(",")
    if len(parts) > 2 or not all(part.strip().isascii() and part.strip().isdigit() and len(part) < 6 for part in parts):
        raise Usage(f"{text[:40]!r} is no range of layers", "--layers", "write --layers 4 for the first four, --layers 2:4 for layers 2 and 3")
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 else (0, int(parts[0]))


def memory_limit(text: str | None) -> int | None:
    """`--max-memory` in bytes (`16GB`, `512MB`, `8GiB` or a number), else WEIGHBRIDGE_MEMORY, else None."""
    flag = "--max-memory" if text is not None else "WEIGHBRIDGE_MEMORY"
    text = text if text is not None else os.environ.get("WEIGHBRIDGE_MEMORY")
    if not text:
        return None
    from weighbridge.check.configfile import parse_size

    return parse_size(text, flag)


def progress_of(folder: Path, files: Collection[str]) -> str:
    """Where a conversion stands: a file has its name when it is whole."""
    return f"{sum((folder / file).exists() for file in files):,} of {len(files):,} files are written in {folder}"


def words(text: str | None) -> list[str]:
    """`a, b` as ["a", "b"]."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def case(src: str, runtime: str | None, command: str | None, config: str | None, memory: str | None, flags: dict[str, Any], scales: str) -> Case:
    """The case that a command line of `check` or `report` asks for. A flag wins over --config, and this over the command after --."""
    from weighbridge.check.case import Case
    from weighbridge.check.request import request
    from weighbridge.checkpoint.checkpoint import Checkpoint
    from weighbridge.checkpoint.source import open_store
    from weighbridge.checkpoint.store import OverlayStore

    store = open_store(src)
    asked = request(words(runtime), command, words(config), memory, flags, store.files())
    if asked.files:
        store = OverlayStore(store, asked.files)
    return Case(Checkpoint(store, lenient=True), asked.targets, asked.settings, scales)
