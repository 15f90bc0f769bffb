"""Peak of anonymous memory: what a process holds for itself, without the pages of mapped files."""

from __future__ import annotations

import threading
from types import TracebackType


class AnonymousPeak:
    """Samples RssAnon of this process in a thread while it is entered; `bytes` is the largest seen."""

    def __init__(self, every: float = 0.02) -> None:
        self.every, self.bytes = every, anonymous()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(self.every):
            self.bytes = max(self.bytes, anonymous())

    def __enter__(self) -> AnonymousPeak:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self.bytes = max(self.bytes, anonymous())


def anonymous() -> int:
    """RssAnon in bytes, 0 where the system does not tell."""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"RssAnon:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
