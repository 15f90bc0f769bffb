"""Qwen2 and Qwen2.5 (`Qwen2ForCausalLM`).

Source: transformers 5.23 `models/qwen2/`: q, k and v have a bias, o has none. Layers slide only with `use_sliding_window`, and
then those that `layer_types` names, or those from `max_window_layers` on.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import decoder
from weighbridge.models.architecture import Architecture, Settings, read_rope, read_windows
from weighbridge.models.inventory import Inventory
from weighbridge.models.sizes import DENSE, Wanted

SIZES = Wanted(DENSE, {"kv_heads": 32})
BIASES = frozenset("qkv")


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `embed`, `layers.{l}.attn.q`, `layers.{l}.attn.q_bias`, `layers.{l}.mlp.gate`, …"""
    read = Settings(config)
    sizes = read.read_sizes(SIZES)
    return decoder.build(read, "qwen2", sizes, lambda into, layer: decoder.mlp(into, sizes, sizes["inter"]), biases=BIASES)


def architecture(config: dict[str, Any]) -> Architecture:
    """What runs."""
    read = Settings(config)
    sizes = read.read_sizes(SIZES)
    window = read_windows(read, sizes["layers"], 4096, per_layer=True, switch=True)
    return decoder.describe(read, "qwen2", sizes, read_rope(read, sizes["head_dim"], 10_000.0), biases=BIASES, window=window)
