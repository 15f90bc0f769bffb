"""DeepSeek-V3.2 (`DeepseekV32ForCausalLM`): V3 with the indexer of sparse attention.

Source: the headers of DeepSeek-V3.2: `indexer.wq_b` and `indexer.wk` are FP8, `indexer.weights_proj` is not, `indexer.k_norm` has a bias.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import deepseek_v3
from weighbridge.models.inventory import Inventory
from weighbridge.models.sizes import Sizes, Wanted

SIZES = Wanted((*deepseek_v3.SIZES.names, "index_heads", "index_dim"), deepseek_v3.SIZES.defaults, deepseek_v3.SIZES.keys)


def inventory(config: dict[str, Any]) -> Inventory:
    """As V3, with `layers.{l}.attn.indexer.wq_b`, …"""
    return deepseek_v3.latent(Sizes(config), SIZES, "deepseek_v32")
