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

import re
from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule

RULE = Rule("WB214", "names-nested", "error")
TWICE = re.compile(r"^(?:\w+\.)?((?:language_model|model|vision_tower|visual|transformer|base_model|module)(?:\.\w+)?\.)\1")
LAYERS = re.compile(r"(\.layers\.\d+)\.layers\.\d+\.")


def find(case: Case) -> Iterator[Finding]:
    # A key has no layer number, so `layers.0.layers.0.` is `layers.layers.0.` there.
    keys = [name for name in case.survey.keys if TWICE.match(name) or ".layers.layers." in f".{name}"]
    if keys:
        count = sum(sum(p.count for p in case.survey.keys[k].pairs.values()) for k in keys)
        yield RULE.finding("Names have the same prefix twice", Where(tensor=folded(keys), count=max(count, len(keys))), evidence=keys[0],
                           consequence=f"KeyError: '{keys[0]}'", fix="take the repeated prefix out of the names in files and index")
    for claim in case.stated:
        for key, entries in claim.lists.items():
            wrong = [e for e in entries if TWICE.match(e) or LAYERS.search(e)] if not keys else []
            if wrong:
                value = [LAYERS.sub(r"\1.", _once(e)) for e in entries]
                edits = (Edit(claim.file, (*claim.path, key), value),) if claim.file.endswith(".json") and key != "dynamic" and claim.place != "quantize" else ()
                yield RULE.finding("Entries of the skip list have the same prefix twice", Where(claim.file, key=claim.key(key), count=len(wrong)),
                                   evidence=folded(wrong), consequence="they match nothing: KeyError: 'layers.0.self_attn.qkv_proj.weight', or plain layers are built "
                                   "quantized", fix=Fix("take the repeated prefix out", value, edits))


def _once(entry: str) -> str:
    while (found := TWICE.match(entry)) is not None:
        start = found.start(1)
        entry = entry[:start] + entry[start + len(found[1]):]
    return entry
