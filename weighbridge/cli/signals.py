"""Signals that end a command line: each with a word, the exit code 128 + n, and no traceback."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)  # Python itself turns SIGINT into KeyboardInterrupt


class Stopped(KeyboardInterrupt):
    """A signal asked for the end: cleared up after like Ctrl-C, of which it is the general case."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def number_of(error: KeyboardInterrupt) -> int:
    return error.number if isinstance(error, Stopped) else int(signal.SIGINT)


@contextmanager
def handled() -> Iterator[None]:
    """TERM and HUP raise Stopped inside the block. A signal that the caller ignores (nohup) or handles itself is left alone, and so is a thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in ENDING if signal.getsignal(number) == signal.SIG_DFL]
    try:
        for number in taken:
            signal.signal(number, _stop)
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
    raise Stopped(number)
