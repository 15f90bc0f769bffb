"""gpt-oss 20B and 120B (`GptOssForCausalLM`): biases everywhere, attention sinks, all experts of a layer in one stored tensor.

Source: transformers 5.23 `models/gpt_oss/modeling_gpt_oss.py` and the headers of gpt-oss-20b. The matrices of all experts stand as one logical
weight [experts*out, in]: rows of gate and up alternate in it. Hidden and intermediate width are equal, so a transposition cannot be seen.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import parts
from weighbridge.models.inventory import Collector, Inventory


def inventory(config: dict[str, Any]) -> Inventory:
    sizes, read = parts.decoder_sizes(config, experts="num_local_experts")
    read.done()
    hidden, inter, count = sizes["hidden"], sizes["inter"], sizes["experts"]
    into = Collector()
    for layer in range(sizes["layers"]):
        into.at(f"layers.{layer}.", f"model.layers.{layer}.")
        parts.norms(into, hidden)
        parts.attention(into, sizes, biases="qkvo")
        into.vector("attn.sinks", "self_attn.sinks", sizes["heads"], "heads", "attention.sinks")
        parts.router(into, "mlp.router", sizes, "mlp.router.bias")
        into.matrix("moe.gate_up", "mlp.experts.gate_up_proj", (count * 2 * inter, hidden), ("experts*2*inter", "hidden"), "experts.gate_up", True)
        into.vector("moe.gate_up_bias", "mlp.experts.gate_up_proj_bias", count * 2 * inter, "experts*2*inter", "biases")
        into.matrix("moe.down", "mlp.experts.down_proj", (count * hidden, inter), ("experts*hidden", "inter"), "experts.down", True)
        into.vector("moe.down_bias", "mlp.experts.down_proj_bias", count * hidden, "experts*hidden", "biases")
    parts.ends(into, sizes, tied=parts.tied(config))
    return parts.finished("gpt_oss", sizes, into)
