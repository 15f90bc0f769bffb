"""Mistral (`MistralForCausalLM`): Llama's names, no biases, an optional sliding window.

Source: transformers 5.23 `models/mistral/modeling_mistral.py`.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models.inventory import Inventory
from weighbridge.models.llama import dense


def inventory(config: dict[str, Any]) -> Inventory:
    return dense(config, "mistral")
