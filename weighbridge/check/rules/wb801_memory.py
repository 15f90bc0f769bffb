"""WB801 memory: weights and key/value cache of one rank do not fit the device.

## What it does
Adds up, from headers, what the fullest rank holds: attention cut by TP with key/value heads repeated (and NxD's zero heads counted), experts cut by both expert degrees, embedding
and head by TP, norms and router whole; and the key/value cache of `--batch` sequences of `--context` tokens (the model's own context and one
sequence if not said). Compares it with `--device-memory`. Activations, graphs and the runtime come on top and are not counted.

## Why it matters
The server ends out of memory after it read the weights; with a paged cache it starts and lets sequences wait.

## Example
MiniMax-M2 (230 GB) at TP 8 on devices of 24 GB: 29 GB of weights for each rank.

## How to mend
Take a pair of TP and EP that the finding lists, a shorter context, a smaller batch, or an FP8 cache.

## References
Arithmetic on the headers; transformers 5.23 `DeepseekV3Attention` for the latent cache; `layer_types` of config.json for windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from weighbridge.check import budget
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix, Where
from weighbridge.check.nxd_settings import effective
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB801", "memory", "error")
PAGED = ("vllm", "sglang", "tensorrt-llm")
SPARE = 0.9  # vLLM's default for --gpu-memory-utilization: what is beyond it is left for activations


def find(case: Case) -> Iterator[Finding]:
    memory = case.settings.device_memory
    if not memory or case.checkpoint.ranks or not case.checkpoint.tensors:
        return
    for target in case.targets or (Target(""),):
        if target.runtime != "llama.cpp":  # a converter: it runs nothing
            yield from _one(case, target, memory)


def _one(case: Case, target: Target, memory: int) -> Iterator[Finding]:
    settings = effective(case, target)
    rank = budget.of_rank(case, settings, target)
    if rank.total <= memory * SPARE:
        return
    d = budget.of_settings(settings, target)
    one = budget.of_rank(case, replace(settings, batch=1), target)
    waits = target.runtime in PAGED and one.total <= memory and settings.where("batch") != "--batch"
    fits = rank.total <= memory
    tokens = f"{max(1, settings.batch)} x {settings.context or case.sizes.context:,} tokens, {budget.value_bytes(settings)} bytes each value"
    numbers = (f"weights {_gb(rank.weights)} (attention {_gb(rank.attention)}, experts {_gb(rank.experts)}, rest {_gb(rank.rest)}) "
               f"+ cache {_gb(rank.cache)} ({tokens}) = {_gb(rank.total)}; the device has {_gb(memory)}")
    title = f"less than a tenth of {_gb(memory)} is left beside {_gb(rank.total)}" if fits else (
        f"a rank needs {_gb(rank.total)}, the device has {_gb(memory)}")
    consequence = ("activations and the runtime may not find room" if fits else "no error: sequences wait for a free part of the cache" if waits
                   else "out of memory while the weights are read" if rank.weights > memory else "out of memory when the cache is made")
    yield RULE.finding(f"{title} (TP {d.tp}, expert TP {d.moe_tp}, EP {d.moe_ep})", Where(key=settings.where("device_memory")), evidence=numbers,
                       consequence=consequence,
                       severity="warning" if fits or waits else "error", fix=_fix(case, target, memory),
                       runtime=target.runtime if case.targets else None)


def _fix(case: Case, target: Target, memory: int) -> Fix:
    fit = budget.fitting(case, effective(case, target), target, memory)
    if not fit:
        return Fix(f"no TP and EP up to {budget.LARGEST} ranks fit: take a shorter context, a smaller batch, --kv-cache-dtype fp8 or larger devices",
                   [])
    experts = bool(case.sizes.experts)
    text = ", ".join(f"TP {tp} EP {ep}" if experts and ep > 1 else f"TP {tp}" for tp, ep in fit)
    return Fix(f"what fits: {text}", [list(pair) for pair in fit])


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
