"""WB109 missing-tensor: the model needs weights that no file holds.

## What it does
Compares the inventory of the model, made from `config.json` alone, with the headers. For families without an inventory it compares each layer
with the others. Weights that may be absent (a tied head, draft layers) have rules of their own.

## Why it matters
Servers that load quantized checkpoints do not look whether every parameter was loaded: the missing ones stay at whatever was in memory.
NxD Inference checks neither norms nor routers. A zero-filled layer runs, too.

## Example
`model.layers.7.mlp.experts.3.down_proj` is in no file, and the config asks for 8 experts.

## How to mend
Download the checkpoint again; if the config is of another model, take the one that belongs to the files.

## References
sgl-project/sglang#32279; vllm-project/vllm#34930, #57108; ModelCloud/GPTQModel#3077; NxD trace/trace.py (a missing key is skipped).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.expected import expected
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule

RULE = Rule("WB109", "missing-tensor", "error")


def find(case: Case) -> Iterator[Finding]:
    due = expected(case)
    if due.foreign_names:
        yield RULE.finding("The names in the files are not those that the model_type has", Where(key="config.json: model_type"),
                           evidence=f"none of {due.total:,} weights of {case.checkpoint.model_type} is here; {due.foreign_names}",
                           consequence="KeyError for every weight, or a model at random values", fix="use the config.json that belongs to these files, or rename the tensors")
        return
    missing = [path for path in due.missing if path != "lm_head"]
    if missing:
        yield RULE.finding("The model needs weights that no file holds", Where(module=folded(missing), count=len(missing)),
                           evidence=f"{len(missing):,} weights are missing, by {due.by}",
                           consequence="no error in readers that do not compare (vLLM for quantized models, NxD for norms and routers): the weights stay at "
                           "random values", fix="download the checkpoint again, or take the config.json that belongs to these files")
