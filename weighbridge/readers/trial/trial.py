"""`check --try`: a skeleton, a Python that has the reader, one run of its probe, and what it came to."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.errors import WeighbridgeError
from weighbridge.readers.trial import worker
from weighbridge.readers.trial.answer import UNAVAILABLE, NotAnAnswer, Tried, parse
from weighbridge.readers.trial.known import Tryable, wanted
from weighbridge.readers.trial.pythons import Installed, find
from weighbridge.readers.trial.skeleton import Skeleton, write_skeleton

Say = Callable[[str], None]


def tried(checkpoint: Checkpoint, readers: Sequence[str], run: dict[str, Any], limits: worker.Limits | None = None, say: Say | None = None) -> list[Tried]:
    """Ask each of `readers` (`vllm`, `vllm@/path/to/python`). `run` has what the user says of it: tp, ep, expert_parallel, kv_cache_dtype, dtype, …"""
    return [_try(checkpoint, tryable, python, run, limits or worker.Limits(), say or (lambda text: None)) for tryable, python in wanted(list(readers))]


def _try(checkpoint: Checkpoint, tryable: Tryable, named: str, run: dict[str, Any], limits: worker.Limits, say: Say) -> Tried:
    began = time.monotonic()
    installed = find(tryable.module, tryable.packages, named)
    if installed is None:
        where = named or "the running Python and those on PATH"
        return Tried(tryable.reader, UNAVAILABLE, stage="installation", error=f"{tryable.module} is not installed in {where}; "
                     f"name a Python that has it: --try {tryable.reader}@/path/to/python")
    if not tryable.knows(installed.version):
        return Tried(tryable.reader, UNAVAILABLE, installed.version, "installation", f"version {installed.version or 'unknown'} was never tried here: "
                     f"known are {', '.join(tryable.versions)}", python=installed.python)
    with tempfile.TemporaryDirectory(prefix="weighbridge-try-") as place:
        folder, work = Path(place) / "checkpoint", Path(place) / "work"
        folder.mkdir()
        work.mkdir()
        try:
            skeleton = write_skeleton(checkpoint, folder, tokenizer=tryable.tokenizer)
        except WeighbridgeError as error:
            return Tried(tryable.reader, UNAVAILABLE, installed.version, "skeleton", f"no skeleton can be made: {error.first.where}: {error.first.message}",
                         python=installed.python)
        say(f"{tryable.reader} {installed.version} reads a skeleton of {skeleton.tensors:,} tensors")
        ran = worker.run(installed.python, tryable.probe, {"folder": str(folder), "seconds": limits.seconds, **run}, work, limits, tryable.environment)
        answer = replace(_came_to(tryable.reader, ran, skeleton, installed), seconds=time.monotonic() - began)
        if not tryable.ranks and max(int(run.get("tp") or 0), int(run.get("ep") or 0)) > 1:
            answer = replace(answer, stand_ins=(*answer.stand_ins, "the whole model in one process: a cut over ranks is not tried with this reader"))
        return answer


def _came_to(reader: str, ran: worker.Ran, skeleton: Skeleton, installed: Installed) -> Tried:
    """The answer; `unavailable` where the process did not end by itself or its answer has another form: that is no word of the reader."""
    layers = (skeleton.fold.kept, skeleton.fold.layers) if skeleton.fold.folds else (0, 0)
    base = Tried(reader, UNAVAILABLE, installed.version, python=installed.python, layers=layers)
    if ran.answer is None:
        return replace(base, stage="start", error=f"gave no answer ({ran.ended or 'exit 0'}): {ran.last_line or 'it printed nothing'}")
    try:
        answer = parse(reader, ran.answer, skeleton.fold)
    except NotAnAnswer as error:
        return replace(base, stage="answer", error=f"gave an answer that cannot be read: {error}")
    if ran.ended:
        return replace(base, stage=answer.stage, stand_ins=answer.stand_ins, error=f"did not end by itself: {ran.ended}: {ran.last_line}")
    return replace(answer, python=installed.python, version=answer.version or installed.version)


