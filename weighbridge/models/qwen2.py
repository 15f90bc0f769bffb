"""Qwen2 and Qwen2.5 (`Qwen2ForCausalLM`): Llama's names with a bias on q, k and v.

Source: transformers 5.23 `models/qwen2/modeling_qwen2.py`.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models.inventory import Inventory
from weighbridge.models.llama import dense


def inventory(config: dict[str, Any]) -> Inventory:
    return dense(config, "qwen2", biases="qkv")
