"""block-grid-and-shards: a weight may be cut where two scale blocks meet, and nowhere else.

## What it is
A rank's share of a block-quantized weight needs a whole number of blocks. A block that is cut in two has one scale for two ranks, and the
second rank's blocks no longer begin at its first row.

## Who multiplies, who divides
* vLLM and SGLang refuse: "... is not divisible by weight quantization block_n = 128."
* NxD 2.29 gives rank t the scale block t (floor division, quantization/quantization_layers.py 287): relative error about 0.5, no message.
* The contrib port of MiniMax-M2 spreads scales for shares below one block, and stops in its own asserts at 16, 32 and 64 ways.

## In numbers
gate and up of a MiniMax-M2 expert have {inter} rows: {blocks} blocks of {block}. Cut 8 ways a rank gets {eight} rows = {ratio} blocks.
Whole blocks come with {good} ways. The widths of attention, {q} and {kv} rows, can be cut {q_good} and {kv_good} ways.

## What goes wrong
Two escapes are right: deal whole experts out (expert parallelism), or repeat scales so that the block divides the share: a block of 1 x 128
with each row's scale repeated is exact and costs 1/32 of the weight's bytes in place of 1/4096.

## Often written, and wrong
"Singleton scale -> drift -> collapse" is given as the reason for `moe_tp_degree: 1` on Neuron. It is wrong because the code does something
else: at 16, 32 and 64 it stops in an assert, at 8 it reads the wrong scales, at 2 and 4 gate columns get up's scales (its stride patch).

## See also
block-quantization, tensor-parallel, expert-parallel, group-quantization, WB502, WB503, WB504, WB709

## References
kvcache-ai/ktransformers#2036; vllm-project/vllm#17569, #52997; NxD 2.29 quantization/quantization_layers.py 282-287; contrib MiniMax-M2
src/modeling_minimax_m2.py 681-718, 1442-1485.
"""

from __future__ import annotations

from typing import Any

from weighbridge.lessons.published import BLOCK, CONFIG, whole_cuts

ALSO = ("shards", "block-grid")


def numbers() -> dict[str, str]:
    inter, dim = CONFIG["intermediate_size"], CONFIG["head_dim"]
    query, keys = CONFIG["num_attention_heads"] * dim, CONFIG["num_key_value_heads"] * dim
    return {"inter": str(inter), "blocks": str(inter // BLOCK[0]), "block": str(BLOCK[0]), "eight": str(inter // 8),
            "ratio": f"{inter / 8 / BLOCK[0]:g}",
            "good": ", ".join(map(str, whole_cuts(inter))), "q": str(query), "kv": str(keys), "q_good": ", ".join(map(str, whole_cuts(query))),
            "kv_good": ", ".join(map(str, whole_cuts(keys)))}


def figure() -> dict[str, Any]:
    inter = CONFIG["intermediate_size"]
    return {"kind": "cuts", "title": f"{inter} rows in blocks of {BLOCK[0]}, cut 8, 4 and 12 ways", "width": inter, "block": BLOCK[0], "ways": [
        {"ways": ways, "share": inter // ways, "whole": inter // ways % BLOCK[0] == 0, "cut_blocks": [b for b in range(inter // BLOCK[0]) if any(
            b * BLOCK[0] < r * inter // ways < (b + 1) * BLOCK[0] for r in range(1, ways))]} for ways in (8, 4, 12)]}
