"""MiniMax-M2, M2.1, M2.5 and M2.7 (`MiniMaxM2ForCausalLM`).

Source: transformers 5.23 `models/minimax_m2/modular_minimax_m2.py` and the headers of the published
checkpoints: q/k norms run over all heads at once (6144 and 1024 values), the router and its bias are
float32, there is no shared expert and no MTP tensor although the config promises three modules.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import decoder
from weighbridge.models.architecture import Architecture, Routing, Settings, read_rope
from weighbridge.models.inventory import Collector, Inventory
from weighbridge.models.sizes import DENSE, ROUTED, Wanted

SIZES = Wanted((*DENSE, *ROUTED), {"head_dim": 128, "kv_heads": None}, {"moe_inter": ()})


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight, named `layers.{l}.attn.q`, `layers.{l}.moe.experts.{e}.gate`, …"""
    read = Settings(config)
    sizes = _sizes(read)
    promised = ("mtp",) if read.get("use_mtp") and read.get("num_mtp_modules") else ()

    def feed(into: Collector, _: int) -> None:
        decoder.experts(into, sizes, "block_sparse_moe", ("w1", "w3", "w2"), bias="e_score_correction_bias")

    return decoder.build(read, "minimax_m2", sizes, feed, qk_norm="whole", promised=promised)


def architecture(config: dict[str, Any]) -> Architecture:
    """What runs: RMSNorm over all of q and of k before the split, partial rotary, experts by sigmoid + bias in every layer.

    The published configs say `rotary_dim`, transformers 5 writes `rope_parameters.partial_rotary_factor`. Keys that M2.7 dropped are not needed.
    """
    read = Settings(config)
    sizes = _sizes(read)
    head_dim = sizes["head_dim"]
    dims = read.positive("rotary_dim", most=head_dim) if read.get("rotary_dim") is not None else head_dim
    read.one_of("scoring_func", "sigmoid", ("sigmoid",))
    read.one_of("qk_norm_type", "per_layer", ("per_layer",))
    for key in ("use_qk_norm", "use_routing_bias"):
        read.require(read.flag(key, True), key, "is false; every published model of this family has it")
    kinds = read.get("attn_type_list") or []
    read.require(isinstance(kinds, list) and all(kind == 1 for kind in kinds), "attn_type_list", "names a layer whose attention is not full (1)")
    routing = Routing(sizes["experts"], sizes["top_k"], "sigmoid", bias=True, normalize=True)
    return decoder.describe(read, "minimax_m2", sizes, read_rope(read, head_dim, 5_000_000.0, dims), qk_norm="whole", routing=routing)


def _sizes(read: Settings) -> dict[str, int]:
    sizes = read.read_sizes(SIZES)
    read.require(not read.get("tie_word_embeddings"), "tie_word_embeddings", "is true; this family has a head of its own")
    read.require(not read.get("shared_intermediate_size"), "shared_intermediate_size", "is not 0; this family has no shared expert")
    return sizes
