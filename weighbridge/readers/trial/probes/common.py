"""What all probes share. It runs in the reader's Python, with the standard library alone: nothing of weighbridge is imported here.

A probe gets a request (JSON, its path in argv) and writes an answer (JSON). The answer is written anew at each stage, so that a crash leaves the
last one. An exception is the reader's refusal only where it comes out of the reader's code: one from a stand-in, from a missing package or from
hardware that is not there is `unavailable`.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PROBES = os.path.dirname(os.path.abspath(__file__))
# Words of a machine that lacks something, not of a reader that refuses a checkpoint.
HARDWARE = re.compile(
    r"CUDA|cuda (driver|runtime)|NVIDIA driver|No GPU|accelerator device|no accelerator|GPU (is )?(required|needed)|triton is not|_C(_cache_ops|_cpu)?'? object has no attribute|"
    r"not compiled with|meta tensor|device meta|aten::.* with arguments from|Could not run '|is not installed|No module named|pip install|"
    r"can't allocate memory|DefaultCPUAllocator|weighbridge-stand-in|forbidden here", re.IGNORECASE)


class Probe:
    """The answer as it grows."""

    def __init__(self) -> None:
        with open(sys.argv[1], encoding="utf-8") as file:
            self.request: dict[str, Any] = json.load(file)
        self.folder: str = self.request["folder"]
        self.answer: dict[str, Any] = {"outcome": "unavailable", "stage": "import", "error": "", "version": "", "unfilled": [], "partly": [], "ignored": [],
                                       "stand_ins": [], "ranks": [], "of_ranks": 0}
        sys.addaudithook(_no_network)
        if self.request.get("seconds"):  # where it hangs, for the log, shortly before it is ended from outside
            faulthandler.dump_traceback_later(float(self.request["seconds"]) * 0.95, exit=False)
        self.write()

    def write(self, **changes: Any) -> None:
        self.answer.update(changes)
        path = self.request["answer"]
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(self.answer, file)
        os.replace(path + ".new", path)

    @contextmanager
    def stage(self, name: str, reader: bool = True) -> Iterator[None]:
        """Name what runs now. What it raises ends the probe with an answer; `reader` says whether it can be the reader's refusal."""
        self.write(stage=name)
        try:
            yield
        except Exception as error:  # noqa: BLE001 every way in which a reader ends is an answer
            traceback.print_exc()
            self.write(outcome="unavailable" if not reader or name == "import" or self.own(error) else "refused", error=words(error).replace(self.folder + os.sep, ""))
            self.end()

    def own(self, error: BaseException) -> bool:
        """Whether the error is of the stand-ins, of a missing package or of missing hardware."""
        if isinstance(error, ReaderRefusal):
            return False
        chain = list(_chain(error))
        if any(isinstance(one, (ImportError, MemoryError, NotImplementedError)) for one in chain):
            return True
        if any(HARDWARE.search(str(one)) for one in chain):
            return True
        frames = traceback.extract_tb(chain[-1].__traceback__)
        inner = [frame.filename for frame in frames if f"{os.sep}torch{os.sep}" not in frame.filename]
        # The recorder looks at shapes with torch's own copy, and headers.py opens files, in the place of what the reader calls: that is said of its call.
        inside = bool(inner) and inner[-1].startswith(PROBES)
        return inside and not (inner[-1].endswith(("recorder.py", "headers.py")) and isinstance(error, (RuntimeError, OSError)))

    def ranks(self, count: int, load: Callable[[int], None]) -> None:
        """Call `load(rank)` for the first and the last of `count` ranks, each in a fork of this warm process, and answer for all together."""
        chosen = sorted({0, count - 1})
        self.write(of_ranks=count)
        place, answers = self.request["answer"], []
        for rank in chosen:
            self.request["answer"] = f"{place}.{rank}"
            sys.stdout.flush()
            sys.stderr.flush()
            child = os.fork()
            if child == 0:
                ctypes.CDLL(None).prctl(1, 9)  # it ends with its parent
                try:
                    self.write()
                    load(rank)
                    self.finish()
                finally:  # stages end by themselves: what comes here is a fault of ours
                    traceback.print_exc()
                    os._exit(1)
            _, status = os.waitpid(child, 0)
            with open(self.request["answer"], encoding="utf-8") as file:
                answer = json.load(file)
            if status:
                answer.update(outcome="unavailable", error=f"rank {rank} of {count} broke down in a stand-in or in the reader (wait status {status})")
            answers.append(answer)
            if answer["outcome"] in ("refused", "unavailable"):
                answer["error"] = f"rank {rank} of {count}: {answer['error']}" if count > 1 else answer["error"]
                break
        self.request["answer"] = place
        self.answer.update(answers[-1])
        self.answer["ranks"] = chosen[: len(answers)]
        for key in ("unfilled", "partly"):
            self.answer[key] = list(dict.fromkeys(name for answer in answers for name in answer[key]))
        # What one rank leaves to another (its experts) is not ignored.
        ignored = [set(answer["ignored"]) for answer in answers]
        self.answer["ignored"] = sorted(set.intersection(*ignored)) if len(answers) == len(chosen) else []
        if answers[-1]["outcome"] not in ("refused", "unavailable"):
            self.answer["outcome"] = "unfilled" if self.answer["unfilled"] else "loaded"
        self.write()
        self.end()

    def finish(self) -> None:
        """The whole came through: loaded, or unfilled where a parameter has no tensor."""
        self.write(outcome="unfilled" if self.answer["unfilled"] else "loaded")
        self.end()

    def end(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # threads and exit handlers of a reader have nothing to add


class ReaderRefusal(Exception):
    """What a reader says without an exception of its own for it: raised by a probe, with the reader's words."""


def words(error: BaseException) -> str:
    """The error in the reader's own words, with the type where the words alone say little; then what it came from."""
    texts = [f"{type(one).__name__}: {one}" if str(one) else f"{type(one).__name__} (without words){_place(one)}" for one in _chain(error)]
    return " | ".join(dict.fromkeys(texts))[:8000]


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno} `{frames[-1].line}`" if frames else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__


def _no_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and str(address[0]) not in ("127.0.0.1", "::1", "localhost"):
            raise PermissionError(f"the network is forbidden here: {address[0]}")
    elif event == "socket.getaddrinfo" and str(arguments[0]) not in ("127.0.0.1", "::1", "localhost", "", "None", "0.0.0.0"):
        raise PermissionError(f"the network is forbidden here: {arguments[0]}")
