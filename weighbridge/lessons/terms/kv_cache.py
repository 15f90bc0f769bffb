"""kv-cache: keys and values of earlier tokens, kept at run time; FP8 there is a matter of its own.

## What it is
Each token leaves a key and a value for each key/value head of each layer. The cache may be FP8 while the weights are BF16, and the other
way round. Scales for it, where there are any, are `k_scale` and `v_scale` in the attention module; compressed-tensors says so by
`kv_cache_scheme`, ModelOpt by `kv_cache_quant_algo`.

## Who multiplies, who divides
The reader divides keys by `k_scale` when it writes the cache and multiplies when it reads. Without scales the readers take 1.0, and warn
once.

## In numbers
MiniMax-M2: {layers} layers x 2 x {heads} heads x {dim} = {values} values for each token: {bf16} bytes in BF16, {fp8} in FP8. A context of
{context} tokens is {whole} in BF16.

## What goes wrong
* `--kv-cache-dtype fp8` on a checkpoint without scales: keys above 448 are cut off, small ones vanish. `fp8_e5m2` needs no scales.
* The checkpoint has them and the model class does not map the names: a KeyError, or 1.0.

## See also
e5m2, saturation, memory-in-bytes, tensor-parallel, WB801, WB802, WB413

## References
compressed-tensors 0.20.0 `kv_cache_scheme`; sgl-project/sgl-cookbook#237; vllm-project/llm-compressor#967; the published config.json of
MiniMax-M2.
"""

from __future__ import annotations

from weighbridge.lessons.published import CONFIG

ALSO = ("k_scale", "v_scale", "kv_scale", "kv")


def numbers() -> dict[str, str]:
    layers, heads, dim = CONFIG["num_hidden_layers"], CONFIG["num_key_value_heads"], CONFIG["head_dim"]
    context = CONFIG["max_position_embeddings"]
    values = layers * 2 * heads * dim
    return {"layers": str(layers), "heads": str(heads), "dim": str(dim), "values": f"{values:,}", "bf16": f"{2 * values:,}", "fp8": f"{values:,}",
            "context": f"{context:,}", "whole": f"{2 * values * context / 1e9:.2f} GB"}
