"""Runs command lines, each in a child of its own, and harms a file of the source at a stated moment.

    python sabotage.py CASES.json        prints a JSON list of [exit code or minus the signal, stderr]

A case is [words, file, harm, moment]. Moments: `opened` (the headers of that file's folder were read), `piece` (before the third piece of weights is
used, after it was mapped), `token` (before the second block of tokens), `bytes` (before the second read of a tensor that is explained).
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def write(path: Path) -> None:
    """Another byte in the last tensor; the size stays."""
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 0x80]))


def replace(path: Path) -> None:
    """Another file of the same size takes its name."""
    other = path.with_name("other.tmp")
    shutil.copyfile(path, other)
    write(other)
    other.replace(path)


def remove(path: Path) -> None:
    path.unlink()


HARMS = {harm.__name__: harm for harm in (cut, empty, write, replace, remove)}


def lay(moment: str, path: Path, harm: str) -> None:
    """Patch this process so that the harm is done at the moment."""
    from weighbridge.checkpoint.checkpoint import Checkpoint
    from weighbridge.engine.forward import Decoder
    from weighbridge.lessons import tensor_read
    from weighbridge.plan.reader import Reader

    calls = itertools.count(1)  # pieces come from several threads

    def wrap(kind: type, name: str, at: int, *, before: bool) -> None:
        inner = getattr(kind, name)

        def outer(self, *args, **kwargs):
            if name == "_read" and Path(self.store.label) != path.parent:
                return inner(self, *args, **kwargs)
            due = next(calls) == at
            if before and due:
                HARMS[harm](path)
            value = inner(self, *args, **kwargs)
            if not before and due:
                HARMS[harm](path)
            return value

        setattr(kind, name, outer)

    if moment == "opened":
        wrap(Checkpoint, "_read", 1, before=False)
    elif moment == "piece":
        wrap(Reader, "rect", 3, before=False)
    elif moment == "token":
        wrap(Decoder, "block", 2, before=True)
    elif moment == "bytes":
        reader = next(k for k in vars(tensor_read).values() if isinstance(k, type) and "raw" in vars(k) and "read" in vars(k))
        wrap(reader, "read", 2, before=True)
    else:
        assert moment == "never", moment


def one(case: list) -> tuple[int, str]:
    words, file, harm, moment = case
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            code = 99
            try:
                nothing = os.open(os.devnull, os.O_RDWR)
                for number, handle in enumerate((nothing, nothing, said.fileno())):
                    os.dup2(handle, number)
                lay(moment, Path(file), harm)
                from weighbridge.cli import main

                code = main(words)
                sys.stderr.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read().decode(errors="replace")


def warm() -> None:
    """Everything that all children need, imported and compiled once."""
    import weighbridge.engine.engine as engine
    import weighbridge.report.sink  # noqa: F401
    from weighbridge.encoding import kernels

    engine.load_kernels()
    for name in kernels.STORY:
        kernels.load(name)


if __name__ == "__main__":
    warm()
    print(json.dumps([one(case) for case in json.loads(Path(sys.argv[1]).read_text())]))
