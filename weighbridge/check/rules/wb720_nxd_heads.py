"""WB720 nxd-heads: heads, vocabulary or hidden width cannot be dealt out to that many ranks.

## What it does
Applies NxD's padding of query heads and repetition of key/value heads to the TP degree, and the divisions that it makes without padding.

## Why it matters
The model class asserts while the weights are converted, or while the layers are made.

## Example
8 key/value heads at TP 12; a vocabulary of 200,064 at TP 48.

## How to mend
Take a TP that the finding lists.

## References
Rules R14 (NxDI modules/attention/gqa.py 93-95) and R28 (NxD parallel_layers/utils.py 91-100) of docs/neuron.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix, Where
from weighbridge.check.nxd_settings import READ_IN, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.runtimes import neuron as reader

RULE = Rule("WB720", "nxd-heads", "error", ("neuron",), READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    n, sizes = nxd(case), nxd(case).sizes_of_model
    if n.tp <= 1 or case.sizes.kv_lora or not all(sizes[key] for key in ("heads", "kv_heads", "hidden",
                                                                         "vocab")) or sizes["heads"] % sizes["kv_heads"]:
        return
    for problem in reader.attention_problems(sizes, n.tp, n.expert_block if n.blockwise else 1):
        rule, _, message = problem.message.partition(": ")
        key = problem.where.partition(": ")[2]
        number = {"vocab_size": sizes["vocab"], "hidden_size": sizes["hidden"]}.get(key)
        text = f"AssertionError: {number} is not divisible by {n.tp}" if number else "AssertionError: GQA.REPLICATE_TO_TP_DEGREE requires …"
        yield RULE.finding(message, Where(file="config.json", key=key),
                           evidence=f"{rule}; {case.settings.where('tp') if case.settings.tp else 'tp_degree'} {n.tp}",
                           consequence=text, fix=Fix(problem.hint, [tp for tp in reader.tp_sizes(sizes, n.expert_block if n.blockwise else 1)]),
                           runtime=target.runtime)
