"""WB721 nxd-setting-values: a setting has a value that NxD Inference refuses.

## What it does
Reads `cast_type`, `attention_dtype` beside `torch_dtype`, `glu_mlp`, the router's activation, the experts per token, degrees that must divide TP,
sizes that are no numbers, and the keys of config.json that the model class asks for.

## Why it matters
The configuration, or the model class, refuses them: after the weights were read, or before.

## Example
`glu_mlp: false` for MiniMax-M2; `router_config: {"act_fn": "relu"}`.

## How to mend
Take the value that the finding says.

## References
Rules R8 (NxDI models/config.py 118-120), R9 (130-131), R10 (700-721), R11 (905-910),
R15 (contrib modeling_minimax_m2.py 454), R35 (NxD modules/moe/routing.py 44-49) of docs/neuron.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix, Remove, Where
from weighbridge.check.nxd_settings import READ_IN, Nxd, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB721", "nxd-setting-values", "error", ("neuron",), READ_IN)
REQUIRED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size", "intermediate_size", "num_local_experts",
            "num_experts_per_tok")
CASTS, ACTIVATIONS = ("config", "as-declared"), ("sigmoid", "softmax")
SIZES = ("tp_degree", "moe_tp_degree", "moe_ep_degree", "ep_degree", "batch_size", "tkg_batch_size", "seq_len", "logical_nc_config")


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    missing = [key for key in REQUIRED if case.text_config.get(key) is None] if n.contrib else []
    if missing:
        yield RULE.finding("the config lacks what the model class asks for", Where(file="config.json", key=missing[0]),
                           evidence=f"missing: {', '.join(missing)}",
                           consequence=f"AssertionError: Config must define {missing}", fix="take config.json from the publisher again",
                           runtime=target.runtime)
    for key, title, evidence, consequence, value in _faults(n, case):
        fix = Fix(f"take {key} away" if value is Remove else f"set it to {value!r}", None if value is Remove else value, (n.edit(key, value),))
        yield RULE.finding(title, n.where(key), evidence=evidence, consequence=consequence, fix=fix, runtime=target.runtime)


def _faults(n: Nxd, case: Case) -> Iterator[tuple[str, str, str, str, Any]]:
    cast = n.values.get("cast_type")
    if cast is not None and cast not in CASTS:
        yield "cast_type", "cast_type is none that NxD knows", f"{cast!r:.60}; known are {', '.join(CASTS)}", "ValueError", "config"
    attention, whole = n.values.get("attention_dtype"), n.values.get("torch_dtype")
    if attention is not None and whole is not None and _plain(attention) != _plain(whole) and cast != "as-declared":
        yield ("attention_dtype", "attention_dtype differs from torch_dtype", f"{attention!r:.40} and {whole!r:.40}",
               "AssertionError: attention dtype and torch dtype are different…", whole)
    if n.contrib and n.flag("glu_mlp") is False:
        yield "glu_mlp", "this model needs gated experts", "glu_mlp false", "AssertionError: MiniMax-M2 requires glu_mlp=True (SwiGLU)", True
    router = n.inner("router_config")
    act = router.get("act_fn")
    if act is not None and act not in ACTIVATIONS:
        right = "sigmoid" if n.contrib or case.text_config.get("scoring_func") == "sigmoid" else "softmax"
        yield "router_config", "the router's activation is none that NxD knows", f"act_fn {act!r:.40}", "ValueError", {**router, "act_fn": right}
    if case.sizes.experts and case.sizes.top_k > case.sizes.experts:
        yield ("num_experts_per_tok", "more experts per token than experts", f"{case.sizes.top_k} of {case.sizes.experts}", "ValueError", Remove)
    for key in ("cp_degree", "attention_dp_degree"):
        if n.tp and n.size(key) > 1 and n.tp % n.size(key):
            yield key, f"{key} does not divide TP", f"{n.tp} % {n.size(key)} = {n.tp % n.size(key)}", "ValueError", 1
    for key in SIZES:
        value = n.values.get(key)
        if value is not None and not n.size(key):
            yield key, f"{key} is no size", f"{value!r:.60}", "TypeError or a shape of 0", Remove


def _plain(dtype: Any) -> str:
    return str(dtype)[:60].removeprefix("torch.")
