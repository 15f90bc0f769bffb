"""GLM-4.5, 4.6 and 4.7 (`Glm4MoeForCausalLM`): dense layers first, sigmoid-routed experts, one shared expert, a draft layer behind the last.

Source: transformers 5.23 `models/glm4_moe/modeling_glm4_moe.py` and the headers of GLM-4.5-FP8.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import parts
from weighbridge.models.deepseek_v3 import draft_ends, sparse
from weighbridge.models.inventory import Collector, Inventory


def inventory(config: dict[str, Any]) -> Inventory:
    sizes, read = parts.decoder_sizes(config, experts="n_routed_experts", inter="moe_intermediate_size")
    sizes |= {"dense_inter": read.positive("intermediate_size"), "shared_experts": parts.whole_number(read, "n_shared_experts", 0),
              "first_dense": parts.whole_number(read, "first_k_dense_replace", 0), "mtp": parts.whole_number(read, "num_nextn_predict_layers", 0, 64)}
    parts.bounded(read, sizes)
    read.done()
    biases = "qkv" if config.get("attention_bias") is True else ""
    qk_norm = "head" if config.get("use_qk_norm") is True else "none"
    into, draft = Collector(), Collector()
    for layer in range(sizes["layers"] + sizes["mtp"]):
        to = into if layer < sizes["layers"] else draft
        to.at(f"layers.{layer}.", f"model.layers.{layer}.")
        parts.norms(to, sizes["hidden"])
        parts.attention(to, sizes, biases=biases, qk_norm=qk_norm)
        if layer < sizes["first_dense"]:
            parts.mlp(to, "mlp.", "mlp.", sizes["hidden"], sizes["dense_inter"])
        else:
            sparse(to, sizes)
        if to is draft:
            draft_ends(to, sizes)
    parts.ends(into, sizes, tied=parts.tied(config))
    return parts.finished("glm4_moe", sizes, into, promised=("mtp",) if sizes["mtp"] else (), optional=draft.weights)
