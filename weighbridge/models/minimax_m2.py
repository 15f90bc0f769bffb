"""MiniMax-M2, M2.1, M2.5 and M2.7 (`MiniMaxM2ForCausalLM`).

Source: transformers 5.23 `models/minimax_m2/modular_minimax_m2.py` and the headers of the published
checkpoints: q/k norms run over all heads at once (6144 and 1024 values), the router and its bias are
float32, there is no shared expert and no MTP tensor although the config promises three modules.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import decoder, parts
from weighbridge.models.architecture import Architecture, Routing, Settings, read_rope
from weighbridge.models.inventory import Collector, Inventory, Sizes


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight, named `layers.{l}.attn.q`, `layers.{l}.moe.experts.{e}.gate`, …"""
    sizes = _sizes(config)
    hidden, vocab = sizes["hidden"], sizes["vocab"]
    into = Collector()
    into.matrix("embed", "model.embed_tokens", (vocab, hidden), ("vocab", "hidden"), "embedding", False)
    for layer in range(sizes["layers"]):
        into.at(f"layers.{layer}.", f"model.layers.{layer}.")
        parts.norms(into, hidden)
        parts.attention(into, sizes, qk_norm="whole")
        parts.router(into, "block_sparse_moe.gate", sizes, "block_sparse_moe.e_score_correction_bias")
        parts.experts(into, "moe.", "block_sparse_moe.", sizes, sizes["inter"], ("w1", "w3", "w2"))
    into.at("", "")
    into.vector("norm", "model.norm.weight", hidden, "hidden", "norms")
    into.matrix("head", "lm_head", (vocab, hidden), ("vocab", "hidden"), "lm_head", False)
    promised = ("mtp",) if config.get("use_mtp") and config.get("num_mtp_modules") else ()
    return Inventory("minimax_m2", sizes, into.weights, promised)


def architecture(config: dict[str, Any]) -> Architecture:
    """What runs: RMSNorm over all of q and of k before the split, partial rotary, experts by sigmoid + bias in every layer.

    The published configs say `rotary_dim`, transformers 5 writes `rope_parameters.partial_rotary_factor`. Keys that M2.7 dropped are not needed.
    """
    sizes = _sizes(config)
    read = Settings(config)
    head_dim = sizes["head_dim"]
    dims = read.positive("rotary_dim", most=head_dim) if config.get("rotary_dim") is not None else head_dim
    read.one_of("scoring_func", "sigmoid", ("sigmoid",))
    read.one_of("qk_norm_type", "per_layer", ("per_layer",))
    for key in ("use_qk_norm", "use_routing_bias"):
        read.require(read.flag(key, True), key, "is false; every published model of this family has it")
    kinds = config.get("attn_type_list") or []
    read.require(isinstance(kinds, list) and all(kind == 1 for kind in kinds), "attn_type_list", "names a layer whose attention is not full (1)")
    routing = Routing(sizes["experts"], sizes["top_k"], "sigmoid", bias=True, normalize=True)
    return decoder.describe(read, "minimax_m2", sizes, read_rope(read, head_dim, 5_000_000.0, dims), qk_norm="whole", routing=routing)


def _sizes(config: dict[str, Any]) -> dict[str, int]:
    read = Sizes(config)
    sizes = {
        "hidden": read.positive("hidden_size"),
        "layers": read.positive("num_hidden_layers", most=4096),
        "heads": read.positive("num_attention_heads", most=65536),
        "kv_heads": read.positive("num_key_value_heads", most=65536),
        "head_dim": read.positive("head_dim", 128, most=65536),
        "inter": read.positive("intermediate_size"),
        "experts": read.positive("num_local_experts", most=65536),
        "top_k": read.positive("num_experts_per_tok", most=65536),
        "vocab": read.positive("vocab_size"),
    }
    read.require(sizes["heads"] % sizes["kv_heads"] == 0, "num_key_value_heads",
                 f"{sizes['heads']} query heads cannot be shared by {sizes['kv_heads']} key/value heads")
    read.require(sizes["top_k"] <= sizes["experts"], "num_experts_per_tok",
                 f"{sizes['top_k']} experts per token, the model has {sizes['experts']}")
    read.require(sizes["layers"] * sizes["experts"] <= 1 << 16, "num_local_experts",
                 f"{sizes['layers']} layers x {sizes['experts']} experts is no model that exists")
    read.require(not config.get("tie_word_embeddings"), "tie_word_embeddings", "is true; this family has a head of its own")
    read.require(not config.get("shared_intermediate_size"), "shared_intermediate_size", "is not 0; this family has no shared expert")
    read.done()
    return sizes
