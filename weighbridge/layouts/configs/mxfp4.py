"""`quant_method: mxfp4`: gpt-oss' stacked experts. Its readers quantize the experts alone; the list is what OpenAI publishes, where it is true."""

from __future__ import annotations

from weighbridge.layouts.configs import base
from weighbridge.layouts.configs.facts import Facts, Written

PUBLISHED = ("model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head")


def written(facts: Facts) -> Written:
    base.refuse_static(facts, "its readers quantize no activations by a stored scale")
    base.only_encoding(facts, lambda encoding: encoding.scheme)
    own = base.skip_list(facts, "mxfp4", PUBLISHED, unneeded=False)
    attention = [m for m in facts.quantized if ".experts" not in m]
    return base.written(facts, {"quant_method": "mxfp4", "modules_to_not_convert": own if attention else sorted({*own, *PUBLISHED})})
