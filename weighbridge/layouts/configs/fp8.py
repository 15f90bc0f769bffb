"""`quant_method: fp8`: one block for all, DeepSeek-V4's `expert_dtype`, and the list under `modules_to_not_convert`.

Read in transformers 5.24 `FineGrainedFP8Config`, vLLM 0.33 `fp8.py`, SGLang 0.5.23 `fp8.py`, and the published configs of DeepSeek, Qwen, GLM and
MiniMax.
"""

from __future__ import annotations

from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.layouts.configs import base
from weighbridge.layouts.configs.facts import Facts, Written

DOTTED = ("deepseek_v4", "deepseek_ref")  # families whose scales are called `.scale`, and which say `expert_dtype`


def written(facts: Facts) -> Written:
    """Raises WeighbridgeError for static activations (readers of block scales take dynamic ones), and for two blocks."""
    base.refuse_static(facts, "block scales go with activations that are quantized as they come")
    blocks = sorted({held.encoding.block for held in facts.held if held.encoding.strategy == "block" and held.encoding.block})
    if len(blocks) != 1:
        raise WeighbridgeError("config-mixed", f"weight_block_size says one block, the plan has {', '.join(f'{r}x{c}' for r, c in blocks) or 'none'}",
                               "config.json: quantization_config.weight_block_size", "give one --block")
    old = base.claim_of(facts.config)
    claim: dict[str, Any] = {
        "quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": list(blocks[0]),
        "fmt": old["fmt"] if old.get("fmt") in ("e4m3", "float8_e4m3fn") else "e4m3",
        "modules_to_not_convert": _given(old) if facts.unchanged and old.get("quant_method") == "fp8" else base.skip_list(facts, "fp8", _given(old))}
    if _power_bytes(facts) or (facts.powers and old.get("scale_fmt") == "ue8m0"):
        claim["scale_fmt"] = "ue8m0"
    experts = _expert_dtype(facts)
    if experts and "expert_dtype" in old:
        claim["expert_dtype"] = experts
    made = base.written(facts, claim)
    made.config.pop("expert_dtype", None)
    if experts and "expert_dtype" not in old:
        made.config["expert_dtype"] = experts
    return made


def _given(old: dict[str, Any]) -> list[str]:
    """The maker's own entries: kept where they are right for every reader."""
    listed = old.get("modules_to_not_convert") or old.get("ignored_layers") or []
    return [entry for entry in listed if isinstance(entry, str) and entry.strip()][:2000] if isinstance(listed, list) else []


def _power_bytes(facts: Facts) -> bool:
    """Whether the block scales are stored as exponents."""
    return any(f.element == "e8m0" for held in facts.held if held.encoding.strategy == "block" for f in [held.encoding.scale] if f)


def _expert_dtype(facts: Facts) -> str:
    """`fp4` where experts hold E2M1 codes, `fp8` for the other outputs of DeepSeek-V4, nothing elsewhere: vLLM takes an absent word as fp4 there."""
    if any(held.encoding.element == "e2m1" for held in facts.held):
        return "fp4"
    return "fp8" if facts.model_type in DOTTED or "expert_dtype" in facts.config or "expert_dtype" in base.claim_of(facts.config) else ""
