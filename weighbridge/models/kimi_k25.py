"""Kimi-K2.5 (`KimiK25ForConditionalGeneration`): DeepSeek-V3's language model below `language_model.`, its config under `text_config`.

Source: the headers of Kimi-K2.5. The vision tower and its projector are not described here.
"""

from __future__ import annotations

from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.models.deepseek_v3 import latent
from weighbridge.models.inventory import Inventory
from weighbridge.models.parts import TOWERS


def inventory(config: dict[str, Any]) -> Inventory:
    text = config.get("text_config")
    if not isinstance(text, dict):
        raise WeighbridgeError("config", "text_config is missing; the sizes of the language model stand there", "config.json: text_config",
                               "take config.json from the publisher again")
    return latent(text, "kimi_k25", prefix="language_model.model.", head="language_model.lm_head", foreign=TOWERS)
