"""One file per family: the inventory of logical weights, from config.json alone; and a generic one for every other model, from its headers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.models.generic import generic, with_towers
from weighbridge.models.inventory import Inventory, PublishedForm, Weight
from weighbridge.models.sizes import ANY, Wanted
from weighbridge.models.sizes import stated_sizes as _stated

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
    "llama4": "llama4",
    "llama4_text": "llama4",
    "qwen2_moe": "qwen2_moe",
    "olmoe": "olmoe",
    "ernie4_5_moe": "ernie4_5_moe",
    "ernie4_5": "dense",
    "phi3": "dense",
    "olmo2": "dense",
    "olmo3": "dense",
    "gemma2": "dense",
    "gemma3_text": "dense",
    "granite": "dense",
    "smollm3": "dense",
    "seed_oss": "dense",
}

__all__ = ["FAMILIES", "Inventory", "PublishedForm", "Weight", "inventory", "inventory_of", "stated_sizes"]


def family(config: Mapping[str, Any]) -> str:
    """The file that knows the model that `config` (a config.json) describes."""
    model_type = config.get("model_type")
    known = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if known is None:
        raise WeighbridgeError("unknown-family", f"model_type is {model_type!r:.80}; known are {', '.join(FAMILIES)}",
                               "config.json: model_type", "inspect works on every checkpoint; layouts need a known family")
    return known


def inventory(config: Mapping[str, Any]) -> Inventory:
    """The inventory of the model that `config` describes. Raises for an unknown family, and for sizes that describe no model."""
    return import_module(f"weighbridge.models.{family(config)}").inventory(config)


def inventory_of(config: Mapping[str, Any], tensors: Mapping[str, tuple[tuple[int, ...], bool]]) -> Inventory:
    """The inventory of a checkpoint with headers: the family's, with the towers that it does not describe as stored; else the generic one.

    `tensors`: the name of each weight as it would be without quantization -> (its shape in values, whether it is stored quantized).
    """
    named = config.get("model_type")
    return with_towers(inventory(config), tensors) if isinstance(named, str) and named in FAMILIES else generic(config, tensors)


def stated_sizes(config: Mapping[str, Any]) -> dict[str, int]:
    """Every size that the config states, as the model's family reads it, under the names of `sizes.SIZES`; 0 for the others. Never an error."""
    return _stated(config, _wanted(config))


def _wanted(config: Mapping[str, Any]) -> Wanted:
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        return ANY
    known = import_module(f"weighbridge.models.{FAMILIES[model_type]}")
    return known.wanted(config) if hasattr(known, "wanted") else known.SIZES
