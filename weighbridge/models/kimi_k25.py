"""Kimi-K2.5 (`KimiK25ForConditionalGeneration`): DeepSeek-V3's language model below `language_model.`, its config under `text_config`.

Source: the headers of Kimi-K2.5. The vision tower and its projector are not described here.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models.deepseek_v3 import SIZES, latent
from weighbridge.models.inventory import Inventory
from weighbridge.models.parts import TOWERS
from weighbridge.models.sizes import Sizes

__all__ = ["SIZES", "inventory"]


def inventory(config: dict[str, Any]) -> Inventory:
    """DeepSeek-V3's weights under other published names."""
    read = Sizes(config)
    read.require(read.nested != "", "text_config", "is missing; the sizes of the language model stand there")
    return latent(read, SIZES, "kimi_k25", prefix="language_model.model.", head="language_model.lm_head", foreign=TOWERS)
