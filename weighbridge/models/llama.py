"""Llama and its relatives with the same names (`LlamaForCausalLM`; SmolLM2 is one).

Source: transformers 5.23 `models/llama/modeling_llama.py`. `attention_bias` puts a bias on q, k, v and o, `mlp_bias` on gate, up and down.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import parts
from weighbridge.models.inventory import Collector, Inventory


def inventory(config: dict[str, Any]) -> Inventory:
    return dense(config, "llama", biases="qkvo" if config.get("attention_bias") is True else "", mlp_bias=config.get("mlp_bias") is True)


def dense(config: dict[str, Any], model_type: str, *, biases: str = "", mlp_bias: bool = False, qk_norm: str = "none") -> Inventory:
    """A decoder of alike layers without experts."""
    sizes, read = parts.decoder_sizes(config)
    read.done()
    into = Collector()
    for layer in range(sizes["layers"]):
        into.at(f"layers.{layer}.", f"model.layers.{layer}.")
        parts.norms(into, sizes["hidden"])
        parts.attention(into, sizes, biases=biases, qk_norm=qk_norm)
        parts.mlp(into, "mlp.", "mlp.", sizes["hidden"], sizes["inter"], bias=mlp_bias)
    parts.ends(into, sizes, tied=parts.tied(config))
    return parts.finished(model_type, sizes, into)
