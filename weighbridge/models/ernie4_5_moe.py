"""ERNIE 4.5 with text experts (`Ernie4_5_MoeForCausalLM`): dense layers first, a softmax router with a correction bias, shared experts.

Source: transformers 5.24 `models/ernie4_5_moe/` and `conversion_mapping.py`. The draft block (`model.mtp_*`) is not described: transformers does
not build it, and its tensors have been seen in no header here.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import decoder, parts
from weighbridge.models.architecture import Settings
from weighbridge.models.inventory import Collector, Inventory
from weighbridge.models.sizes import DENSE, LAYERS, ROUTED, Wanted, first

SIZES = Wanted((*DENSE, *ROUTED, "shared_experts", "first_dense"), {"kv_heads": 4, "moe_inter": None, "shared_experts": 2, "first_dense": 1},
               {"experts": first("experts", "moe_num_experts"), "top_k": first("top_k", "moe_k"),
                "shared_experts": first("shared_experts", "moe_num_shared_experts"), "first_dense": ("moe_layer_start_index",)})
STATICS = "mlp.moe_statics.e_score_correction_bias"
BIASES = frozenset(("q", "k", "v", "o", *parts.FEED, "head"))


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `layers.{l}.moe.router`, `layers.{l}.moe.shared.gate`, …"""
    read = Settings(config)
    sizes = read.read_sizes(SIZES)
    every = read.positive("moe_layer_interval", 1, LAYERS)
    last = read.get("moe_layer_end_index", -1)
    read.require(isinstance(last, int) and not isinstance(last, bool), "moe_layer_end_index", f"is {last!r:.80}; a whole number is needed")
    last = sizes["layers"] - 1 if last == -1 or not isinstance(last, int) else last
    biases = BIASES if read.flag("use_bias", False) else frozenset()

    def feed(into: Collector, layer: int) -> None:
        if (layer + 1) % every or not sizes["first_dense"] <= layer <= last:
            decoder.mlp(into, sizes, sizes["inter"], biases)
            return
        parts.router(into, "mlp.gate", sizes)
        into.vector("moe.router_bias", STATICS, sizes["experts"], "experts", "router.bias", (1, sizes["experts"]))
        parts.renamed(into, "moe.router_bias", STATICS.replace("mlp.", "mlp.gate."), "")
        parts.experts(into, "moe.", "mlp.", sizes, sizes["moe_inter"])
        if sizes["shared_experts"]:
            parts.mlp(into, "moe.shared.", "mlp.shared_experts.", sizes["hidden"], sizes["moe_inter"] * sizes["shared_experts"], "shared_experts",
                      biases=biases)

    return decoder.build(read, "ernie4_5_moe", sizes, feed, biases=biases, tied=True, foreign=("model.mtp_",))
