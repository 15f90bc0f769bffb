"""Weighbridge: what is in a quantized checkpoint, whether a runtime will read it right, and the one that it would."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from weighbridge.version import __version__

_LAZY = {
    "open": ("weighbridge.api", "open"),
    "Model": ("weighbridge.api", "Model"),
    "explain": ("weighbridge.api", "explain"),
    "load": ("weighbridge.api", "load"),
    "to_torch": ("weighbridge.api", "to_torch"),
    "WeighbridgeError": ("weighbridge.errors", "WeighbridgeError"),
    "Refused": ("weighbridge.errors", "Refused"),
}

__all__ = ["Model", "Refused", "WeighbridgeError", "__version__", "explain", "load", "open", "to_torch"]

if TYPE_CHECKING:
    from weighbridge.api import Model, explain, load, open, to_torch
    from weighbridge.errors import Refused, WeighbridgeError


def __getattr__(name: str) -> Any:
    """Importing the package does nothing; each name is loaded when it is first asked for."""
    if name in _LAZY:
        module, attribute = _LAZY[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'weighbridge' has no attribute {name!r}")
