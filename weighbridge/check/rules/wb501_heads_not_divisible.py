"""WB501 heads-not-divisible: the attention heads cannot be dealt out to that many ranks.

## What it does
Divides the query heads of `config.json` by the tensor-parallel size, and the key/value heads too: they must divide it, or be divided by it
and so repeated. Latent attention (DeepSeek) has no key/value heads of its own.

## Why it matters
The server stops while it reads the configuration or makes the first layer.

## Example
48 query heads at TP 7; 8 key/value heads at TP 12.

## How to mend
Take one of the sizes that the finding lists. They keep whole scale blocks too.

## References
vLLM config/model.py `verify_with_parallel_config` (the text) and model classes (`assert` on key/value heads), main; SGLang and TensorRT-LLM
assert the same without a text.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import cuts
from weighbridge.check.case import Case
from weighbridge.check.cut_find import READ_IN, size_fix
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB501", "heads-not-divisible", "error", cuts.READERS, READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    sizes, tp = case.sizes, cuts.degrees(case.settings, target).attention
    if cuts.heads_fit(sizes, tp):
        return
    queries = bool(sizes.heads % tp)
    what = f"{sizes.heads} attention heads" if queries else f"{sizes.kv_heads} key/value heads"
    text = cuts.HEADS.format(heads=sizes.heads, tp=tp)
    consequence = ("ValueError: " + text if target.runtime == "vllm" else "AssertionError") if queries else "AssertionError without a text"
    where = Where(file="config.json", key="num_attention_heads" if queries else "num_key_value_heads")
    yield RULE.finding(f"{what} cannot be dealt out to {tp} ranks", where, evidence=f"{what}, {case.settings.where('tp')} {tp}",
                       consequence=consequence,
                       fix=size_fix(case, target, "attention"), runtime=target.runtime)
