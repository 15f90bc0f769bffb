"""WB413 kv-scale-name: the scales of the KV cache have names that this model class does not take.

## What it does
Looks at `kv_scale`, `k_scale` and `v_scale` tensors, and at the classes and versions that have no mapping for them.

## Why it matters
The load ends with a KeyError although the scales are optional.

## Example
`model.layers.0.self_attn.k_scale` in a Starcoder2 checkpoint; one `kv_scale` for both, as old exports have it.

## How to mend
Take a version that maps the name; or remove the tensors, and the cache is scaled by 1.

## References
vllm-project/llm-compressor#967; sgl-project/sglang#1559; vllm-project/vllm#37214 and #38303 (MiniMax-M2 NVFP4, vLLM 0.18.0).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at
from weighbridge.check.settings import Target

RULE = Rule("WB413", "kv-scale-name", "error", ("vllm", "sglang"), {"vllm": "vLLM main; minimax_m2 as of 0.18.0", "sglang": "sglang#1559"})
UNMAPPED = {"starcoder2": "", "minimax_m2": "0.18.1"}  # vLLM classes without the mapping, and the version that has it (empty: none known)


def find(case: Case, target: Target) -> Iterator[Finding]:
    if any(key.endswith(".kv_scale") for key in case.survey.keys):
        names = [name for name in case.checkpoint.tensors if name.endswith(".kv_scale")]
        old = target.runtime == "vllm"
        yield RULE.finding("One scale for keys and values has the old name kv_scale", at(names), evidence=f"{len(names):,} kv_scale, 0 k_scale and v_scale",
                           consequence="a warning that kv_scale is deprecated; both take its value" if old else f"KeyError: '{names[0]}'",
                           fix="store the value twice, as k_scale and v_scale", severity="warning" if old else "error", runtime=target.runtime)
    if target.runtime == "vllm" and case.checkpoint.model_type in UNMAPPED:
        yield from _unmapped(case, target)


def _unmapped(case: Case, target: Target) -> Iterator[Finding]:
    since = UNMAPPED[case.checkpoint.model_type]
    if since and target.version and not target.before(since):
        return
    names = sorted(name for key, found in case.survey.keys.items() if key.endswith((".k_scale", ".v_scale")) for name in found.names)
    if names:
        shown = names[0].replace("k_proj.", "qkv_proj.").replace("v_proj.v_", "qkv_proj.v_")
        yield RULE.finding(f"vLLM's class for {case.checkpoint.model_type} does not take scales of the KV cache", at(names),
                           evidence=f"{len(names):,} k_scale and v_scale; no mapping of their names" + (f" before {since}" if since else ""),
                           consequence=f"KeyError: '{shown if since == '' else shown.removeprefix('model.')}'",
                           severity="error" if not since or target.version else "warning", runtime=target.runtime,
                           fix=f"use vLLM {since} or newer" if since else "remove the k_scale and v_scale tensors: the cache is then scaled by 1")
