"""One file per family: the inventory of logical weights, from config.json alone."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.models.inventory import Inventory, Weight

# model_type -> the file here that knows it.
FAMILIES = {
    "minimax_m2": "minimax_m2",
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3_moe",
    "mixtral": "mixtral",
    "deepseek_v3": "deepseek_v3",
    "kimi_k2": "deepseek_v3",
    "deepseek_v32": "deepseek_v32",
    "glm4_moe": "glm4_moe",
    "gpt_oss": "gpt_oss",
    "kimi_k25": "kimi_k25",
    "mimo_v2": "mimo_v2",
    "mimo_v2_flash": "mimo_v2",
}

__all__ = ["FAMILIES", "Inventory", "Weight", "inventory"]


def family(config: dict[str, Any]) -> str:
    """The file that knows the model that `config` (a config.json) describes."""
    model_type = config.get("model_type")
    known = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if known is None:
        raise WeighbridgeError("unknown-family", f"model_type is {model_type!r:.80}; known are {', '.join(FAMILIES)}",
                               "config.json: model_type", "inspect works on every checkpoint; layouts need a known family")
    return known


def inventory(config: dict[str, Any]) -> Inventory:
    """The inventory of the model that `config` describes."""
    return import_module(f"weighbridge.models.{family(config)}").inventory(config)
