"""Qwen3, the dense ones (`Qwen3ForCausalLM`).

Source: transformers 5.23 `models/qwen3/`: RMSNorm on each head of q and of k; `attention_bias` puts a bias on q, k, v and o.
Layers slide as in Qwen2.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import decoder
from weighbridge.models.architecture import Architecture, Settings, read_rope, read_windows
from weighbridge.models.inventory import Inventory
from weighbridge.models.sizes import DENSE, Wanted

SIZES = Wanted(DENSE, {"head_dim": 128, "kv_heads": 32})


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `embed`, `layers.{l}.attn.q`, `layers.{l}.attn.q_norm`, `layers.{l}.mlp.gate`, …"""
    read = Settings(config)
    sizes, biases = read.read_sizes(SIZES), _biases(read)
    return decoder.build(read, "qwen3", sizes, lambda into, layer: decoder.mlp(into, sizes, sizes["inter"]), biases=biases, qk_norm="head")


def architecture(config: dict[str, Any]) -> Architecture:
    """What runs."""
    read = Settings(config)
    sizes, biases = read.read_sizes(SIZES), _biases(read)
    window = read_windows(read, sizes["layers"], 4096, per_layer=True, switch=True)
    return decoder.describe(read, "qwen3", sizes, read_rope(read, sizes["head_dim"], 10_000.0), biases=biases, window=window, qk_norm="head")


def _biases(read: Settings) -> frozenset[str]:
    return frozenset("qkvo" if read.flag("attention_bias", False) else "")
