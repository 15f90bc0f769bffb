"""OLMoE (`OlmoeForCausalLM`): norms over all heads of q and of k, experts in every layer, their width is `intermediate_size`.

Source: transformers 5.24 `models/olmoe/modeling_olmoe.py`.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import decoder
from weighbridge.models.architecture import Settings
from weighbridge.models.inventory import Inventory
from weighbridge.models.sizes import DENSE, ROUTED, Wanted, first

SIZES = Wanted((*DENSE, *ROUTED), {}, {"experts": first("experts", "num_experts"), "moe_inter": ()})


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `layers.{l}.moe.experts.{e}.gate`, …"""
    read = Settings(config)
    sizes = read.read_sizes(SIZES)
    biases = frozenset("qkvo" if read.flag("attention_bias", False) else "")
    return decoder.build(read, "olmoe", sizes, lambda into, layer: decoder.experts(into, sizes), biases=biases, qk_norm="whole")
