"""The command lines that print, each for itself, what the report holds."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from weighbridge.check.case import Case

TENSOR, DESTINATION = "TENSOR", "DST"  # to be filled in: the name of a tensor, a new folder
SHOWN = ("tp", "ep", "moe_tp", "moe_ep", "batch", "context", "device_memory", "device", "kv_cache_dtype")


def commands(case: Case, layout: str, against: str, words: Sequence[str] | None = None) -> dict[str, str]:
    """By verb. `words` are the flags of `check` as they were typed, else the case's settings are written as flags. `layout` may be empty."""
    source = case.checkpoint.label
    asked = list(words) if words is not None else settings_words(case)
    told = {
        "inspect": ["inspect", source],
        "check": ["check", source, *asked],
        "draw": ["draw", source],
        "report": ["report", source, *asked, *(["--against", against] if against else []), *(["--to", layout] if layout else [])],
    }
    if layout:
        told["trace"] = ["trace", source, TENSOR, "--to", layout]
        told["convert"] = ["convert", source, DESTINATION, "--to", layout, "--dry-run"]
    told["verify"] = ["verify", source, against or DESTINATION]
    return {verb: shlex.join(["weighbridge", *line]) for verb, line in told.items()}


def settings_words(case: Case) -> list[str]:
    """Readers and settings of a case as flags of `check`."""
    settings = case.settings
    words = ["--runtime", ",".join(t.runtime + (f"@{t.version}" if t.version else "") for t in case.targets)] if case.targets else []
    for name in SHOWN:
        if value := getattr(settings, name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return [*words, "--enable-expert-parallel"] if settings.expert_parallel else words
