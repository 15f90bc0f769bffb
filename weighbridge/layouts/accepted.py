"""Which options each layout takes: the rows say it of published layouts, this file of Neuron's. What a layout does not take is refused, never ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from weighbridge.errors import Usage
from weighbridge.layouts import LAYOUTS, NEURON
from weighbridge.layouts.rows import ROWS

CHOICES: tuple[str, ...] = tuple(name for name in LAYOUTS if name != "neuron-shards")  # what `--to` takes; --shards is the other one
NEURON_OPTIONS = ("--attention", "--scale-rule", "--shards", "--block", "--tp", "--moe-tp", "--moe-ep", "--batch", "--context")
EVERYWHERE = frozenset({"--allow", "--inexact"})  # what they permit may turn out not to be needed: that is the plan's question


def flag(name: str) -> str:
    """`zero_points` as `--zero-points`."""
    return f"--{name.replace('_', '-')}"


def options_of(layout: str) -> frozenset[str]:
    """Flags that a layout takes, as they are typed."""
    if layout in NEURON:
        return EVERYWHERE | frozenset(NEURON_OPTIONS)
    return EVERYWHERE | frozenset(ROWS[layout].options)


def takers(option: str) -> list[str]:
    """The layouts that take an option."""
    return [name for name in CHOICES if option in options_of(name)]


def require_accepted(layout: str, given: Mapping[str, Any], beside: Iterable[str] = ()) -> None:
    """Raise Usage for the first option, by its name in Python, that `layout` does not take. Empty values were not given; `beside` are taken in any case."""
    known = options_of(layout) | set(beside)
    for name, value in given.items():
        option = flag(name)
        if value in (None, 0, "", (), False) or option in known:
            continue
        others = takers(option)
        if not others:
            raise Usage(f"{option} is no option of a layout", option, "weighbridge convert --help lists the options")
        raise Usage(f"{layout} takes no {option}", option, f"leave it out; it goes with --to {', '.join(others)}")


__all__ = ["CHOICES", "flag", "options_of", "require_accepted", "takers"]
