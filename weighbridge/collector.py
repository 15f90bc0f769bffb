"""Building a hundred thousand small records: the garbage collector would walk them all, again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_own_process = False


def own_process() -> None:
    """This process is ours alone, from its start to its end: what is built under `paused` need never be walked."""
    global _own_process
    _own_process = True


@contextmanager
def paused() -> Iterator[None]:
    """Pause the cyclic collector, and leave it as it was found: in a library it belongs to the caller, whose garbage must not be kept."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if _own_process:
                gc.freeze()
            gc.enable()
