"""expert-parallel: EP; whole experts are dealt out to the ranks, none is cut.

## What it is
Of {experts} experts each rank holds {experts} / EP. A token's {top} experts may lie on other ranks, so tokens travel. No scale block is
cut, whatever the width.

## Who multiplies, who divides
* vLLM: `--enable-expert-parallel` makes EP = TP x DP, and the experts' own TP 1.
* SGLang: `--ep`; the experts are cut TP / EP ways.
* NxD Inference: `moe_tp_degree` x `moe_ep_degree` must be TP. `ep_degree` is another setting and multiplies the ranks. With `moe_ep_degree`
  1, `moe_tp_degree` is ignored and TP cuts.

## In numbers
MiniMax-M2 at TP 8 cannot cut an expert ({inter} / 8 = {eight}, the block is {block}). With EP 8 a rank holds {share} whole experts.

## What goes wrong
* `moe_tp_degree` x `moe_ep_degree` below TP: the sum runs over all ranks, and experts count several times, in silence.
* The contrib port of MiniMax-M2 needs two experts or more on a rank, and with `moe_tp_degree` above 1 its stride patch pairs gate columns
  with up's scales.
* NxD's token generation needs batch x top-k >= experts: a batch of {batch} for MiniMax-M2.

## See also
tensor-parallel, block-grid-and-shards, router, WB505, WB708, WB711, WB712

## References
vLLM model_executor/layers/fused_moe; NxDI modules/moe_v2.py 155-159; NxD 2.29 parallel_layers/parallel_state.py 582-589,
modules/moe/expert_mlps_v2.py 1470-1497.
"""

from __future__ import annotations

from weighbridge.lessons.published import BLOCK, CONFIG

ALSO = ("ep", "expert-parallelism", "moe-ep")


def numbers() -> dict[str, str]:
    experts, top, inter = CONFIG["num_local_experts"], CONFIG["num_experts_per_tok"], CONFIG["intermediate_size"]
    return {"experts": str(experts), "top": str(top), "inter": str(inter), "eight": str(inter // 8), "block": str(BLOCK[0]),
            "share": str(experts // 8),
            "batch": str(-(-experts // top))}
