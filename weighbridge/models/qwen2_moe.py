"""Qwen1.5-MoE and Qwen2-MoE (`Qwen2MoeForCausalLM`): q, k and v have a bias, a shared expert has a gate of its own.

Source: transformers 5.24 `models/qwen2_moe/modeling_qwen2_moe.py`; dense layers as in Qwen3 with experts.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import decoder, parts
from weighbridge.models.architecture import Settings
from weighbridge.models.inventory import Collector, Inventory
from weighbridge.models.qwen3_moe import sparse_layers
from weighbridge.models.sizes import DENSE, ROUTED, Wanted, first

SIZES = Wanted((*DENSE, *ROUTED, "shared_inter"),
               {"kv_heads": 16, "moe_inter": None, "inter": 5632, "shared_inter": 5632},
               {"experts": first("experts", "num_experts")})


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `layers.{l}.moe.shared.gate`, `layers.{l}.moe.shared_gate`, …"""
    read = Settings(config)
    sizes = read.read_sizes(SIZES)
    sparse, biases = sparse_layers(read, sizes), frozenset("qkv" if read.flag("qkv_bias", True) else "")

    def feed(into: Collector, layer: int) -> None:
        if not sparse[layer]:
            decoder.mlp(into, sizes, sizes["inter"])
            return
        decoder.experts(into, sizes)
        parts.mlp(into, "moe.shared.", "mlp.shared_expert.", sizes["hidden"], sizes["shared_inter"], "shared_experts")
        into.matrix("moe.shared_gate", "mlp.shared_expert_gate", (1, sizes["hidden"]), ("one", "hidden"), "router", False)

    return decoder.build(read, "qwen2_moe", sizes, feed, biases=biases)
