"""Llama 4 (`Llama4ForCausalLM`, and the language model of `Llama4ForConditionalGeneration`): stacked and turned experts, one shared expert.

Source: transformers 5.24 `models/llama4/modeling_llama4.py`: `experts.gate_up_proj` [experts, hidden, 2*inter] holds gate in the first half of
the last axis and up in the second, `down_proj` is [experts, inter, hidden]. `intermediate_size` is an expert's width, `intermediate_size_mlp`
that of a dense layer. In the whole model the weights stand below `language_model.`, and the towers are not described.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import decoder, parts
from weighbridge.models.architecture import Settings
from weighbridge.models.inventory import Collector, Inventory
from weighbridge.models.sizes import DENSE, LAYERS, ROUTED, Wanted

SIZES = Wanted((*DENSE, *ROUTED), {"kv_heads": 8, "head_dim": 128, "inter": 16384, "top_k": 1},
               {"inter": ("intermediate_size_mlp",), "moe_inter": ("intermediate_size",)})


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `layers.{l}.moe.experts.{e}.gate`, `layers.{l}.moe.shared.gate`, `layers.{l}.mlp.gate`, …"""
    read = Settings(config)
    sizes, whole = read.read_sizes(SIZES), config.get("model_type") == "llama4"
    read.require(bool(read.nested) or not whole, "text_config", "is missing; the sizes of the language model stand there")
    every = read.positive("interleave_moe_layer_step", 1, LAYERS)
    given = read.get("moe_layers")
    read.require(given is None or isinstance(given, list), "moe_layers", "is no list of layers")
    routed = set(range(every - 1, sizes["layers"], every)) if not isinstance(given, list) else {n for n in given if isinstance(n, int)}
    biases = frozenset("qkvo" if read.flag("attention_bias", False) else "")

    def feed(into: Collector, layer: int) -> None:
        if layer not in routed:
            parts.mlp(into, "mlp.", "feed_forward.", sizes["hidden"], sizes["inter"])
            return
        parts.router(into, "feed_forward.router", sizes)
        parts.experts(into, "moe.", "feed_forward.", sizes, sizes["moe_inter"], stacked=True, turned=True)
        parts.mlp(into, "moe.shared.", "feed_forward.shared_expert.", sizes["hidden"], sizes["moe_inter"], "shared_experts")

    prefix = "language_model." if whole else ""
    return decoder.build(read, str(config.get("model_type")), sizes, feed, biases=biases, prefix=prefix + "model.", head=prefix + "lm_head",
                         foreign=parts.TOWERS if whole else ())
