"""Stored forms, one for each reader or family of readers. `LAYOUTS` names those that can be written."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from weighbridge.errors import Problem, Usage
from weighbridge.layouts import hf
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Stored
from weighbridge.layouts.rows import ROWS

if TYPE_CHECKING:
    from weighbridge.layouts.source import Source


class Layout(NamedTuple):
    """How an inventory is stored: `stored(source, options)` gives the destination's weights, `requires` what keeps them from being written."""

    name: str
    stored: Callable[[Source, Options], list[Stored]]
    requires: Callable[[Source, Options], list[Problem]]
    neuron: bool = False


def _published(name: str) -> Layout:
    return Layout(name, lambda source, options: hf.stored(source, name, options), lambda source, options: hf.requires(source, name, options))


def _neuron(name: str) -> Layout:
    module = import_module(f"weighbridge.layouts.{name.replace('-', '_')}")
    return Layout(name, lambda source, options: module.stored(source.inventory, options), lambda source, options: module.requires(source.inventory, options), True)


NEURON = ("neuron", "neuron-shards")
LAYOUTS: tuple[str, ...] = (*ROWS, *NEURON)


def layout(name: str) -> Layout:
    """A layout by the name that `--to` takes."""
    if name not in LAYOUTS:
        raise Usage(f"no layout {name!r:.60}; known are {', '.join(LAYOUTS)}", "--to")
    return _neuron(name) if name in NEURON else _published(name)
