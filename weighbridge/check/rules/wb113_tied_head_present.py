"""WB113 tied-head-present: the config ties the head to the embedding, and the files hold a head of their own.

## What it does
Looks for `lm_head` tensors where `tie_word_embeddings` is true, and whether they are quantized.

## Why it matters
A quantized head of a tied model has nowhere to go: the class has no such module. A plain one is left out, and what it holds is not used.

## Example
A GPTQ export of Gemma holds `lm_head.qweight`, `lm_head.qzeros` and `lm_head.scales`.

## How to mend
Remove the tensors, or write `tie_word_embeddings: false` if the head differs from the embedding.

## References
vllm-project/vllm#53170.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Where
from weighbridge.check.rule import Rule

RULE = Rule("WB113", "tied-head-present", "error")


def find(case: Case) -> Iterator[Finding]:
    heads = [m for m in case.modules.all if m.role == "lm_head"]
    if not case.sizes.tied or not heads:
        return
    coded = any(m.quantized for m in heads)
    path = ("tie_word_embeddings",) if case.text_config is case.config else ("text_config", "tie_word_embeddings")
    yield RULE.finding("The config ties the head to the embedding, and the files hold a head of their own",
                       Where(file=heads[0].weight.file, tensor=heads[0].weight.name, key="config.json: tie_word_embeddings"),
                       evidence=f"{heads[0].weight.dtype} {list(heads[0].weight.shape)} beside tie_word_embeddings true",
                       consequence="ValueError: There is no module or parameter named 'lm_head'" if coded else "no error: the stored head is not used",
                       fix=Fix("say that it is not tied, or remove the tensors", False, (Edit("config.json", path, False),)),
                       severity="error" if coded else "note")
