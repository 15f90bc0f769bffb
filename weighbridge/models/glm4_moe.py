"""GLM-4.5, 4.6 and 4.7 (`Glm4MoeForCausalLM`): dense layers first, sigmoid-routed experts, one shared expert, a draft layer behind the last.

Source: transformers 5.24 `models/glm4_moe/modeling_glm4_moe.py` and the headers of GLM-4.5-FP8.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import parts
from weighbridge.models.architecture import Settings
from weighbridge.models.deepseek_v3 import draft_ends, sparse
from weighbridge.models.inventory import Collector, Inventory
from weighbridge.models.sizes import DENSE, ROUTED, Wanted, first

SIZES = Wanted((*DENSE, *ROUTED, "shared_experts", "first_dense", "mtp"), {"kv_heads": 8, "moe_inter": None},
               {"experts": first("experts", "n_routed_experts")})


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight; draft layers, numbered behind the last one, are optional."""
    read = Settings(config)
    sizes, tied = read.read_sizes(SIZES), parts.tied(read)
    biases = "qkv" if read.flag("attention_bias", False) else ""
    qk_norm = "head" if read.flag("use_qk_norm", False) else "none"
    read.done()
    into, draft = Collector(), Collector()
    parts.embedding(into, sizes)
    for layer in range(sizes["layers"] + sizes["mtp"]):
        to = into if layer < sizes["layers"] else draft
        to.at(f"layers.{layer}.", f"model.layers.{layer}.")
        parts.norms(to, sizes["hidden"])
        parts.attention(to, sizes, biases=biases, qk_norm=qk_norm)
        if layer < sizes["first_dense"]:
            parts.mlp(to, "mlp.", "mlp.", sizes["hidden"], sizes["inter"])
        else:
            sparse(to, sizes)
        if to is draft:
            draft_ends(to, sizes)
    parts.ends(into, sizes, tied=tied)
    return parts.finished("glm4_moe", sizes, into, promised=("mtp",) if sizes["mtp"] else (), drafts=draft)
