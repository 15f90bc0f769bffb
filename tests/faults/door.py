"""Systems that stand in the door to the disk (weighbridge/convert/system.py): one that fails once, one that dies, one that keeps a record."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import weighbridge.api as wb
from weighbridge.convert import system
from weighbridge.convert.run import Result, convert
from weighbridge.convert.system import System
from weighbridge.testing.tiny import write_tiny

SMALL = {"hidden": 128, "inter": 128, "heads": 2, "kv_heads": 1, "head_dim": 64, "experts": 2, "layers": 1, "vocab": 128, "shards": 2}
CALLS = [name for name in vars(System) if not name.startswith("_")]
CHANGES = ("open", "mkdir", "pwrite", "write", "truncate", "allocate", "fsync", "rename", "unlink", "rmdir", "lock")
FAULTS = ("ENOSPC", "EIO", "EINTR", "EDQUOT", "short", "kill", "torn")  # torn: half of a write, then the kill


class Killed(BaseException):
    """The process is gone: nothing catches this, and no call goes through any more."""


class Door(System):
    """Calls `before(name, arguments)` before each call, which may raise, or return what is to be called in its place."""

    def __init__(self, before: Callable[[str, tuple[Any, ...]], Callable[[], Any] | None]) -> None:
        for name in CALLS:
            setattr(self, name, self._guarded(name, getattr(System, name), before))

    def _guarded(self, name: str, real: Callable[..., Any], before: Callable[[str, tuple[Any, ...]], Callable[[], Any] | None]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            instead = before(name, arguments)
            if instead is None and name == "fsync":  # the disk of the tests need not wait: what was asked for counts
                return None
            return real(self, *arguments) if instead is None else instead()

        return call


class Faulty:
    """Fails once: call number `number` among those that change something."""

    def __init__(self, number: int, fault: str) -> None:
        self.left, self.fault, self.hit, self.dead = number, fault, "", False

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> Callable[[], Any] | None:
        if self.dead and name != "close":
            raise Killed
        if name not in CHANGES or self.hit:
            return None
        if self.left:
            self.left -= 1
            return None
        return self._fail(name, arguments)

    def _fail(self, name: str, arguments: tuple[Any, ...]) -> Callable[[], Any] | None:
        self.hit = f"{name} {arguments[0]!r}"
        writes = name in ("write", "pwrite")
        if self.fault == "short":
            return (lambda: getattr(System(), name)(arguments[0], arguments[1][:1], *arguments[2:])) if writes else None
        if self.fault == "torn" and writes:
            getattr(System(), name)(arguments[0], arguments[1][: len(arguments[1]) // 2], *arguments[2:])
        if self.fault in ("kill", "torn"):
            self.dead = True
            raise Killed
        code = getattr(errno, self.fault)
        raise OSError(code, os.strerror(code))


@contextmanager
def door(before: Callable[[str, tuple[Any, ...]], Callable[[], Any] | None]) -> Iterator[None]:
    previous = system.CURRENT
    system.CURRENT = Door(before)
    try:
        yield
    finally:
        system.CURRENT = previous


def small(folder: Path) -> Path:
    """A checkpoint of 200 kB with a README beside it."""
    write_tiny(folder, **SMALL)
    (folder / "README.md").write_text("A model.\n")
    return folder


def run(source: Path, out: Path, layout: str, sync: bool = False, **options: Any) -> Result:
    return convert(wb.open(source).plan(layout, **options), out, sync=sync)


def calls(source: Path, out: Path, layout: str, sync: bool, **options: Any) -> list[str]:
    """The calls of a run that change something."""
    seen: list[str] = []

    def note(name: str, arguments: tuple[Any, ...]) -> None:
        if name in CHANGES:
            seen.append(name)

    with door(note):
        run(source, out, layout, sync, **options)
    return seen
