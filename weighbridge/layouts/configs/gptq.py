"""GPTQ, version 2, in config.json and quantize_config.json alike; modules that stay unquantized are `-:` keys of `dynamic`.

Read in gptqmodel 7.7 `QuantizeConfig`, vLLM 0.33 `auto_gptq.py` and `utils/gptq_utils.py`, transformers 5.24 `GPTQConfig`.
"""

from __future__ import annotations

from typing import Any

from weighbridge.version import __version__
from weighbridge.layouts.configs import base
from weighbridge.layouts.configs.facts import Facts, Written


def written(facts: Facts) -> Written:
    """Raises WeighbridgeError where encodings are mixed, or static scales of activations are to be carried."""
    base.refuse_static(facts, "GPTQ quantizes weights alone")
    encoding = base.only_encoding(facts, base.words)
    claim: dict[str, Any] = {
        "quant_method": "gptq", "bits": base.bits(encoding), "group_size": base.group_size(encoding), "desc_act": facts.desc_act,
        "sym": facts.symmetric,
        "lm_head": any(module.endswith("lm_head") for module in facts.quantized), "true_sequential": True, "checkpoint_format": "gptq_v2",
        "pack_dtype": "int32", "meta": {"quantizer": [f"weighbridge:{__version__}"]}}
    skipped = base.skip_list(facts, "gptq")
    if skipped:
        claim["dynamic"] = {f"-:{entry}": {} for entry in skipped}
    return base.written(facts, claim, {"quantize_config.json": claim})
