"""WB715 nxd-tied: the config ties the head to the embedding, which this port does not do.

## What it does
Reads `tie_word_embeddings` of a MiniMax-M2 config for a run on Neuron.

## Why it matters
NxDI asks the model class to tie the weights, and the class has no such function.

## Example
`"tie_word_embeddings": true` after the config was saved again by another tool.

## How to mend
Set it to false, as the publisher has it: the files hold a head.

## References
Rule R16 of docs/neuron.md: NxDI models/application_base.py 805-808, contrib modeling_minimax_m2.py 1659.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Where
from weighbridge.check.nxd_settings import READ_IN, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB715", "nxd-tied", "error", ("neuron",), READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    if not nxd(case).contrib or not case.sizes.tied:
        return
    head = any(name.endswith("lm_head.weight") for name in case.checkpoint.tensors)
    edits = (Edit("config.json", ("tie_word_embeddings",), False),) if head else ()
    yield RULE.finding("the config ties the head, and the port cannot", Where(file="config.json", key="tie_word_embeddings"),
                       evidence=f"tie_word_embeddings true, lm_head.weight is {'in' if head else 'not in'} the files",
                       consequence="NotImplementedError: State-dict update not implemented",
                       fix=Fix("set it to false", False, edits) if head else Fix("convert a checkpoint that has a head of its own"),
                       runtime=target.runtime)
