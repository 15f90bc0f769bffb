"""Mixtral 8x7B and 8x22B (`MixtralForCausalLM`).

Source: transformers 5.23 `models/mixtral/modeling_mixtral.py`: softmax over all experts, the chosen weights divided by their sum
(the same as a softmax over the chosen); w1 is gate, w3 up, w2 down; `sliding_window` holds for every layer.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import decoder
from weighbridge.models.architecture import Architecture, Routing, Settings, read_rope, read_windows
from weighbridge.models.inventory import Inventory
from weighbridge.models.sizes import DENSE, ROUTED, Wanted

SIZES = Wanted((*DENSE, *ROUTED), {"kv_heads": 8}, {"moe_inter": ()})


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `layers.{l}.attn.q`, `layers.{l}.moe.router`, `layers.{l}.moe.experts.{e}.gate`, …"""
    read = Settings(config)
    sizes = read.read_sizes(SIZES)
    return decoder.build(read, "mixtral", sizes, lambda into, layer: decoder.experts(into, sizes, "block_sparse_moe", ("w1", "w3", "w2")))


def architecture(config: dict[str, Any]) -> Architecture:
    """What runs."""
    read = Settings(config)
    sizes = read.read_sizes(SIZES)
    window = read_windows(read, sizes["layers"], None, per_layer=False, switch=False)
    routing = Routing(sizes["experts"], sizes["top_k"], "softmax", bias=False, normalize=True)
    return decoder.describe(read, "mixtral", sizes, read_rope(read, sizes["head_dim"], 1_000_000.0), window=window, routing=routing, eps=1e-5)
