"""`hf-bf16`, `hf-f16`: no claim at all, and the dtype as it is."""

from __future__ import annotations

from dataclasses import replace

from weighbridge.layouts.configs import base
from weighbridge.layouts.configs.facts import Facts, Written

_DTYPES = {"hf-bf16": "BF16", "hf-f16": "F16"}


def written(facts: Facts) -> Written:
    made = base.written(replace(facts, dtype=_DTYPES[facts.layout]), None)
    made.config.pop("expert_dtype", None)  # DeepSeek-V4's word for experts in FP4 or FP8
    return made
