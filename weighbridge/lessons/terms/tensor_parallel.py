"""tensor-parallel: TP; each matrix is cut, and each rank holds a strip of it.

## What it is
Column-parallel layers (q, k, v, gate, up) are cut along their outputs, row-parallel ones (o_proj, down) along their inputs; the partial
sums of the latter are added up over the ranks. Norms and the router are whole on each rank. Key/value heads are repeated where there are
more ranks than heads.

## Who multiplies, who divides
Each rank multiplies its codes by its part of the scale grid. So the grid must be cut at the same places as the weight, and a cut must fall
between two blocks.

## In numbers
MiniMax-M2's experts are {inter} wide, the block is {block}: TP {good} keep whole blocks. At TP 8 a rank would get {eight} rows. Attention
has {heads} heads of {dim}: on Neuron at TP 64 each rank gets one head, {dim} rows, one block (the 48 are padded to 64).

## What goes wrong
* vLLM and SGLang refuse a cut through a block, some minutes into the start. NxD divides by floor division and takes the wrong block,
  without a word.
* Norms over all heads (q_norm, k_norm of MiniMax-M2 have {qnorm} and {knorm} values) need a sum over ranks. A reader that norms what it
  holds computes another model.

## See also
expert-parallel, block-grid-and-shards, kv-cache, WB502, WB503, WB506, WB709

## References
vllm-project/vllm#17569; kvcache-ai/ktransformers#2036; NxD 2.29 trace/trace.py 678-686, 796-813; transformers 5.23.0 models/minimax_m2.
"""

from __future__ import annotations

from weighbridge.lessons.published import BLOCK, CONFIG, whole_cuts

ALSO = ("tp", "tensor-parallelism")


def numbers() -> dict[str, str]:
    inter, dim = CONFIG["intermediate_size"], CONFIG["head_dim"]
    return {"inter": str(inter), "block": str(BLOCK[0]), "good": ", ".join(map(str, whole_cuts(inter))), "eight": str(inter // 8),
            "heads": str(CONFIG["num_attention_heads"]), "dim": str(dim), "qnorm": str(CONFIG["num_attention_heads"] * dim),
            "knorm": str(CONFIG["num_key_value_heads"] * dim)}
