"""One file per `model_type`: the inventory of logical weights, from config.json alone."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.models.inventory import Inventory, Weight

FAMILIES = ("minimax_m2",)

__all__ = ["FAMILIES", "Inventory", "Weight", "inventory"]


def inventory(config: dict[str, Any]) -> Inventory:
    """The inventory of the model that `config` (a config.json) describes."""
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise WeighbridgeError("unknown-family", f"model_type is {model_type!r}; known are {', '.join(FAMILIES)}",
                               "config.json: model_type", "inspect works on every checkpoint; layouts need a known family")
    return import_module(f"weighbridge.models.{model_type}").inventory(config)
