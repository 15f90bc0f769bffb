"""Qwen3-MoE (`Qwen3MoeForCausalLM`): Qwen3's attention, softmax-routed experts, no shared expert.

Source: transformers 5.23 `models/qwen3_moe/modeling_qwen3_moe.py`: a layer is sparse unless `mlp_only_layers` names it or
`decoder_sparse_step` leaves it out.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import parts
from weighbridge.models.inventory import Collector, Inventory


def inventory(config: dict[str, Any]) -> Inventory:
    sizes, read = parts.decoder_sizes(config, experts="num_experts", inter="moe_intermediate_size")
    sizes["dense_inter"] = read.positive("intermediate_size", sizes["inter"])
    step = read.positive("decoder_sparse_step", 1)
    only = config.get("mlp_only_layers") or []
    read.require(isinstance(only, list) and all(isinstance(n, int) for n in only), "mlp_only_layers", "is not a list of layer numbers")
    read.done()
    into = Collector()
    for layer in range(sizes["layers"]):
        into.at(f"layers.{layer}.", f"model.layers.{layer}.")
        parts.norms(into, sizes["hidden"])
        parts.attention(into, sizes, biases="qkvo" if config.get("attention_bias") is True else "", qk_norm="head")
        if layer in only or (layer + 1) % step:
            parts.mlp(into, "mlp.", "mlp.", sizes["hidden"], sizes["dense_inter"])
            continue
        parts.router(into, "mlp.gate", sizes)
        parts.experts(into, "moe.", "mlp.", sizes, sizes["inter"])
    parts.ends(into, sizes, tied=parts.tied(config))
    return parts.finished("qwen3_moe", sizes, into)
