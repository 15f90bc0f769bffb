"""Llama 2 and 3, SmolLM2 and others of `LlamaForCausalLM`.

Source: transformers 5.23 `models/llama/modeling_llama.py`: `attention_bias` puts a bias on q, k, v and o, `mlp_bias` on gate, up and down.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import decoder
from weighbridge.models.architecture import Architecture, Settings, read_rope
from weighbridge.models.inventory import Inventory
from weighbridge.models.sizes import DENSE, Wanted

SIZES = Wanted(DENSE)


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `embed`, `layers.{l}.attn.q`, `layers.{l}.mlp.gate`, …"""
    read = Settings(config)
    sizes, biases = read.read_sizes(SIZES), _biases(read)
    return decoder.build(read, "llama", sizes, lambda into, layer: decoder.mlp(into, sizes, sizes["inter"], biases), biases=biases)


def architecture(config: dict[str, Any]) -> Architecture:
    """What runs: full attention, RMSNorm with eps 1e-6 unless told otherwise."""
    read = Settings(config)
    sizes, biases = read.read_sizes(SIZES), _biases(read)
    return decoder.describe(read, "llama", sizes, read_rope(read, sizes["head_dim"], 10_000.0), biases=biases)


def _biases(read: Settings) -> frozenset[str]:
    attention = "qkvo" if read.flag("attention_bias", False) else ""
    mlp = ("gate", "up", "down") if read.flag("mlp_bias", False) else ()
    return frozenset((*attention, *mlp))
