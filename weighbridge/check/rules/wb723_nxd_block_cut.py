"""WB723 nxd-block-cut: TP cuts a dense layer or attention through a scale block, or o_proj's scale lies padded for another TP.

## What it does
Applies the block settings to every FP8 weight with two axes, and divides the cut axis by TP as NxD does: query heads padded, key/value heads
repeated. o_proj's scale must already lie padded in the file, because the load hook pads the weight alone: its columns say for which TP.

## Why it matters
NxD divides by floor division and checks nothing: rank t takes scale block t, without a message. A scale that is padded for another TP ends the load.

## Example
A dense layer 2304 wide at TP 4: 576 rows, the block is 128. An `exact` MiniMax-M2 that was written for TP 64 (64 heads) and runs at TP 16 (48 heads).

## How to mend
Take a TP that the finding lists, or convert again for this TP: `weighbridge convert SRC DST --to neuron --tp N`.

## References
Rules R25 and R36 of docs/neuron.md: NxD quantization/quantization_layers.py 287, trace/trace.py 796-825; NxDI modules/attention/gqa.py 1082-1113.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix, Where
from weighbridge.check.nxd_settings import READ_IN, Nxd, NxdWeight, nxd, shown
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.runtimes import neuron as reader

RULE = Rule("WB723", "nxd-block-cut", "error", ("neuron",), READ_IN)
AXIS = {"mlp.gate": 0, "mlp.up": 0, "mlp.gate_up": 0, "mlp.down": 1, "attention.q": 0, "attention.k": 0, "attention.v": 0, "attention.o": 1}


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    if not n.blockwise or n.tp <= 1 or case.checkpoint.ranks:
        return
    weights = [s for s in n.stored if s.fp8 and len(s.shape) == 2 and s.role in AXIS and s.scale_suffix in (".scale", ".weight_scale")
               and not n.listed(s)]
    bad = [s for s in weights if not whole(n, s, n.tp)]
    if bad:
        one, axis = bad[0], AXIS[bad[0].role]
        share = width(n, one, n.tp) / n.tp
        good = [tp for tp in range(1, reader.LARGEST_TP + 1) if all(whole(n, s, tp) for s in weights)]
        yield RULE.finding(f"{one.role} cannot be cut {n.tp} ways: {width(n, one, n.tp)}/{n.tp} = {share:g}, and the block is {n.blocks(2)[axis]}",
                           Where(tensor=shown([s.name for s in bad]), key="tp_degree", count=sum(s.count for s in bad)),
                           evidence=f"{list(one.shape)}, axis {axis}, TP {n.tp}", consequence="no error: rank t takes scale block t",
                           fix=Fix(f"TP {', '.join(map(str, good)) or 'none'}", good), runtime=target.runtime)
    yield from _padding(n, target, [s for s in weights if s.role == "attention.o" and len(s.scale) == 2 and s.scale[1] > 1])


def width(n: Nxd, stored: NxdWeight, tp: int) -> int:
    """Length of the cut axis as the load hook makes it: heads padded or repeated."""
    sizes, length = n.sizes_of_model, stored.shape[AXIS[stored.role]]
    head, heads = sizes["head_dim"], {"attention.k": "kv_heads", "attention.v": "kv_heads"}.get(stored.role, "heads")
    if not stored.role.startswith("attention.") or not head or not sizes["kv_heads"] or length != sizes[heads] * head:
        return length
    return (reader.kv_heads(sizes, tp) if heads == "kv_heads" else reader.query_heads(sizes, tp)) * head


def whole(n: Nxd, stored: NxdWeight, tp: int) -> bool:
    block, length = n.blocks(2).get(AXIS[stored.role], 1), width(n, stored, tp)
    return length % tp == 0 and (block >= stored.shape[AXIS[stored.role]] or length // tp % block == 0)


def _padding(n: Nxd, target: Target, weights: list[NxdWeight]) -> Iterator[Finding]:
    block = n.blocks(2).get(1, 0)
    for s in weights[:1]:
        padded, own = width(n, s, n.tp) // block if block else 0, s.shape[1] // block if block else 0
        if block and s.shape[1] % block == 0 and s.scale[1] != padded and s.scale[1] >= own:
            yield RULE.finding(f"o_proj's scale has {s.scale[1]} columns, TP {n.tp} wants {padded}", Where(tensor=shown([s.name]), count=s.count),
                               evidence=f"scale {list(s.scale)} beside {list(s.shape)}; {n.sizes_of_model['heads']} heads are padded to "
                               f"{reader.query_heads(n.sizes_of_model, n.tp)} at TP {n.tp}",
                               consequence="RuntimeError: expected shape … but found …, or AssertionError in the hook of o_proj",
                               fix=f"convert again for this TP: weighbridge convert SRC DST --to neuron --attention exact --tp {n.tp}",
                               runtime=target.runtime)
