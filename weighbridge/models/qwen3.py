"""Qwen3 (`Qwen3ForCausalLM`): a norm on each head of q and k; `attention_bias` is false in all published ones.

Source: transformers 5.23 `models/qwen3/modeling_qwen3.py`. Small sizes tie the head to the embedding.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models.inventory import Inventory
from weighbridge.models.llama import dense


def inventory(config: dict[str, Any]) -> Inventory:
    return dense(config, "qwen3", biases="qkvo" if config.get("attention_bias") is True else "", qk_norm="head")
