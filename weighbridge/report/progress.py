"""A line that shows how far long work is: bytes, speed, time left, memory. Quiet when stderr is no terminal."""

from __future__ import annotations

import sys
import threading
import time

from weighbridge.report.units import size
from weighbridge.report.visible import visible


class Progress:
    """Call it with (bytes done, bytes in all); it draws at most ten times a second."""

    def __init__(self, verb: str) -> None:
        self.verb, self.started, self.drawn = verb, time.monotonic(), 0.0
        self.first: int | None = None
        self.on = sys.stderr.isatty()
        self.lock = threading.Lock()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self.on or (now - self.drawn < 0.1 and done < total) or not self.lock.acquire(blocking=False):
            return
        try:
            self.drawn = now
            self.first = done if self.first is None else self.first
            speed = (done - self.first) / max(now - self.started, 1e-6)
            left = (total - done) / speed if speed > 0 else 0.0
            sys.stderr.write(f"\r\033[K{visible(self.verb)} {size(done)} of {size(total)}  {size(int(speed))}/s  {_time(left)} left  memory {size(_memory())}")
            sys.stderr.flush()
        finally:
            self.lock.release()

    def close(self) -> None:
        """Leave a clean line."""
        if self.on:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _memory() -> int:
    try:
        with open("/proc/self/status", "rb") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(b"RssAnon:"))
    except (OSError, StopIteration):
        return 0
