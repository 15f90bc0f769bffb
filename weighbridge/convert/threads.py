"""How many threads work."""

from __future__ import annotations

import os

from weighbridge.errors import Usage


def thread_count() -> int:
    text = os.environ.get("WEIGHBRIDGE_THREADS", "")
    if text and not (text.isdigit() and int(text) > 0):
        raise Usage(f"{text!r} is not a number of threads", "WEIGHBRIDGE_THREADS", "give a whole number from 1 on, or nothing")
    return int(text) if text else len(os.sched_getaffinity(0))
