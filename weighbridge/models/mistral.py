"""Mistral 7B, Nemo and others of `MistralForCausalLM`.

Source: transformers 5.23 `models/mistral/`: as Llama without any bias; every layer slides over `sliding_window` positions,
and a config without the key means 4096.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import decoder
from weighbridge.models.architecture import Architecture, Settings, read_rope, read_windows
from weighbridge.models.inventory import Inventory
from weighbridge.models.sizes import DENSE, Wanted

SIZES = Wanted(DENSE, {"kv_heads": 8})


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `embed`, `layers.{l}.attn.q`, `layers.{l}.mlp.gate`, …"""
    read = Settings(config)
    sizes = read.read_sizes(SIZES)
    return decoder.build(read, "mistral", sizes, lambda into, layer: decoder.mlp(into, sizes, sizes["inter"]))


def architecture(config: dict[str, Any]) -> Architecture:
    """What runs; 8 key/value heads where the config names none, as the class has them."""
    read = Settings(config)
    sizes = read.read_sizes(SIZES)
    window = read_windows(read, sizes["layers"], 4096, per_layer=False, switch=False)
    return decoder.describe(read, "mistral", sizes, read_rope(read, sizes["head_dim"], 10_000.0), window=window)
