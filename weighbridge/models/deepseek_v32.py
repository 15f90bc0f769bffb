"""DeepSeek-V3.2 (`DeepseekV32ForCausalLM`): V3 with the indexer of sparse attention.

Source: the headers of DeepSeek-V3.2: `indexer.wq_b` and `indexer.wk` are FP8, `indexer.weights_proj` is not, `indexer.k_norm` has a bias.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models.deepseek_v3 import latent
from weighbridge.models.inventory import Inventory


def inventory(config: dict[str, Any]) -> Inventory:
    return latent(config, "deepseek_v32", indexer=True)
