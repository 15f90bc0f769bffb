"""AWQ, version `gemm`. Read in AutoAWQ 0.2.9, vLLM 0.33 `auto_awq.py`, transformers 5.24 `AwqConfig`."""

from __future__ import annotations

from weighbridge.errors import WeighbridgeError
from weighbridge.layouts.configs import base
from weighbridge.layouts.configs.facts import Facts, Written


def written(facts: Facts) -> Written:
    """Raises WeighbridgeError where encodings are mixed, where groups are not in order, or static scales of activations are to be carried."""
    base.refuse_static(facts, "AWQ quantizes weights alone")
    if facts.desc_act:
        raise WeighbridgeError("config-order", "groups of input channels are not in order (desc_act), and AWQ has no g_idx to say so",
                               "config.json: quantization_config", "convert to gptq-int4, which has one")
    encoding = base.only_encoding(facts, base.words)
    return base.written(facts, {
        "quant_method": "awq", "bits": base.bits(encoding), "group_size": base.group_size(encoding), "zero_point": True, "version": "gemm",
        "modules_to_not_convert": base.skip_list(facts, "awq")})
