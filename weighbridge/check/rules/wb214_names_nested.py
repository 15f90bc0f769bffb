"""WB214 names-nested: a prefix of the names stands there twice.

## What it does
Looks for the same word twice at the beginning of names, and for `layers.N.layers.`, in the files and in the skip lists.

## Why it matters
A model that was saved through a wrapper gets the wrapper's prefix each time. No reader finds such names.

## Example
`language_model.language_model.model.layers.0.mlp.experts.0.w2.weight_packed`.

## How to mend
Take the repeated prefix out of the names (and out of the index and the skip list).

## References
vllm-project/llm-compressor#2568; vllm-project/vllm#11795.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.claim_find import nested_twice, once
from weighbridge.check.finding import Edit, Finding, Fix, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule

RULE = Rule("WB214", "names-nested", "error")


def find(case: Case) -> Iterator[Finding]:
    # A key has no layer number, so `layers.0.layers.0.` is `layers.layers.0.` there.
    keys = [name for name in case.survey.keys if nested_twice(name) or ".layers.layers." in f".{name}"]
    if keys:
        count = sum(sum(p.count for p in case.survey.keys[k].pairs.values()) for k in keys)
        yield RULE.finding("Names have the same prefix twice", Where(tensor=folded(keys), count=max(count, len(keys))), evidence=keys[0],
                           consequence=f"KeyError: '{keys[0]}'", fix="take the repeated prefix out of the names in files and index")
        return
    for claim in case.stated:
        for key, entries in claim.lists.items():
            wrong = [e for e in entries if nested_twice(e)]
            if wrong:
                value = [once(e) for e in entries]
                # For a reader that is named, the rules about its list write the whole list.
                writable = not case.targets and claim.file.endswith(".json") and key != "dynamic" and claim.place != "quantize"
                yield RULE.finding("Entries of the skip list have the same prefix twice", Where(claim.file, key=claim.key(key), count=len(wrong)),
                                   evidence=folded(wrong), consequence="they match nothing: KeyError: 'layers.0.self_attn.qkv_proj.weight', or plain "
                                   "layers are built quantized",
                                   fix=Fix("take the repeated prefix out", value, (Edit(claim.file, (*claim.path, key), value),) if writable else ()))
