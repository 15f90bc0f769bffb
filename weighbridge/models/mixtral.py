"""Mixtral (`MixtralForCausalLM`): w1 is gate, w3 up, w2 down; softmax over the chosen experts.

Source: transformers 5.23 `models/mixtral/modeling_mixtral.py` and the published names (`block_sparse_moe`).
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import parts
from weighbridge.models.inventory import Collector, Inventory


def inventory(config: dict[str, Any]) -> Inventory:
    sizes, read = parts.decoder_sizes(config, experts="num_local_experts")
    read.done()
    into = Collector()
    for layer in range(sizes["layers"]):
        into.at(f"layers.{layer}.", f"model.layers.{layer}.")
        parts.norms(into, sizes["hidden"])
        parts.attention(into, sizes)
        parts.router(into, "block_sparse_moe.gate", sizes)
        parts.experts(into, "moe.", "block_sparse_moe.", sizes, sizes["inter"], ("w1", "w3", "w2"))
    parts.ends(into, sizes, tied=parts.tied(config))
    return parts.finished("mixtral", sizes, into)
