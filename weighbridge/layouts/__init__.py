"""One file per stored form: rules only. `LAYOUTS` is the table of them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from weighbridge.errors import Usage

LAYOUTS: dict[str, str] = {
    "hf-fp8": "weighbridge.layouts.hf_fp8",
    "hf-bf16": "weighbridge.layouts.hf_bf16",
    "neuron": "weighbridge.layouts.neuron",
    "neuron-shards": "weighbridge.layouts.neuron_shards",
}


def layout(name: str) -> ModuleType:
    """The module of a layout: `stored(inventory, options)` gives its tensors, `requires` its demands."""
    if name not in LAYOUTS:
        raise Usage(f"no layout {name!r}; known are {', '.join(LAYOUTS)}", "--to")
    return import_module(LAYOUTS[name])
