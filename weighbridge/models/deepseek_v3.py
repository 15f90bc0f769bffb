"""DeepSeek-V3, R1 and Kimi-K2 (`DeepseekV3ForCausalLM`): latent attention, dense layers first, shared experts, a draft layer behind the last.

Source: transformers 5.24 `models/deepseek_v3/modeling_deepseek_v3.py` and the headers of DeepSeek-R1: the draft (MTP) layer is number
`num_hidden_layers`, with an embedding and a head of its own.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import parts
from weighbridge.models.inventory import Collector, Inventory
from weighbridge.models.sizes import DENSE, LATENT, ROUTED, Sizes, Wanted, first

# A head has a part without positions and one with them; a `head_dim` in a config that transformers 5 saved is the second alone.
SIZES = Wanted((*DENSE, *LATENT, *ROUTED, "shared_experts", "first_dense", "mtp"), {"v_dim": None, "moe_inter": None},
               {"head_dim": (), "experts": first("experts", "n_routed_experts")})


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `layers.{l}.attn.q_a`, `layers.{l}.moe.shared.gate`, …; the draft layers are optional."""
    return latent(Sizes(config), SIZES, str(config.get("model_type")))


def latent(read: Sizes, wanted: Wanted, model_type: str, *, prefix: str = "model.", head: str = "lm_head",
           foreign: tuple[str, ...] = ()) -> Inventory:
    """The family with other prefixes (Kimi-K2.5), and with the indexer of sparse attention where `wanted` has its sizes (V3.2)."""
    sizes, tied = read.read_sizes(wanted), parts.tied(read)
    read.done()
    into, draft = Collector(), Collector()
    parts.embedding(into, sizes, prefix)
    for layer in range(sizes["layers"]):
        _layer(into, sizes, layer, prefix)
    parts.ends(into, sizes, tied=tied, prefix=prefix, head=head)
    for layer in range(sizes["layers"], sizes["layers"] + sizes["mtp"]):
        _layer(draft, sizes, layer, prefix)
        draft_ends(draft, sizes)
    return parts.finished(model_type, sizes, into, promised=("mtp",) if sizes["mtp"] else (), drafts=draft, foreign=foreign)


def _layer(into: Collector, sizes: dict[str, int], layer: int, prefix: str) -> None:
    into.at(f"layers.{layer}.", f"{prefix}layers.{layer}.")
    parts.norms(into, sizes["hidden"])
    _attention(into, sizes)
    if "index_dim" in sizes:
        _indexer(into, sizes)
    if layer < sizes["first_dense"]:
        parts.mlp(into, "mlp.", "mlp.", sizes["hidden"], sizes["inter"])
    else:
        sparse(into, sizes)


def sparse(into: Collector, sizes: dict[str, int]) -> None:
    """Router with its correction bias, routed and shared experts, under `mlp`."""
    parts.router(into, "mlp.gate", sizes, "mlp.gate.e_score_correction_bias")
    parts.experts(into, "moe.", "mlp.", sizes, sizes["moe_inter"])
    if sizes["shared_experts"]:
        parts.mlp(into, "moe.shared.", "mlp.shared_experts.", sizes["hidden"], sizes["moe_inter"] * sizes["shared_experts"], "shared_experts")


def _attention(into: Collector, sizes: dict[str, int]) -> None:
    hidden, heads = sizes["hidden"], sizes["heads"]
    query = heads * (sizes["qk_nope"] + sizes["qk_rope"])
    if sizes["q_lora"]:
        into.matrix("attn.q_a", "self_attn.q_a_proj", (sizes["q_lora"], hidden), ("q_lora", "hidden"), "attention.q_a", True)
        into.vector("attn.q_a_norm", "self_attn.q_a_layernorm.weight", sizes["q_lora"], "q_lora", "norms")
        into.matrix("attn.q_b", "self_attn.q_b_proj", (query, sizes["q_lora"]), ("heads*head_dim", "q_lora"), "attention.q_b", True)
    else:
        into.matrix("attn.q", "self_attn.q_proj", (query, hidden), ("heads*head_dim", "hidden"), "attention.q", True)
    latent_width = sizes["kv_lora"] + sizes["qk_rope"]
    into.matrix("attn.kv_a", "self_attn.kv_a_proj_with_mqa", (latent_width, hidden), ("kv_lora+qk_rope", "hidden"), "attention.kv_a", True)
    into.vector("attn.kv_a_norm", "self_attn.kv_a_layernorm.weight", sizes["kv_lora"], "kv_lora", "norms")
    into.matrix("attn.kv_b", "self_attn.kv_b_proj", (heads * (sizes["qk_nope"] + sizes["v_dim"]), sizes["kv_lora"]), ("heads*(qk_nope+v)", "kv_lora"),
                "attention.kv_b", True)
    into.matrix("attn.o", "self_attn.o_proj", (hidden, heads * sizes["v_dim"]), ("hidden", "heads*v"), "attention.o", True)


def _indexer(into: Collector, sizes: dict[str, int]) -> None:
    """Sparse attention's indexer; its `k_norm` is a LayerNorm with a bias."""
    dim, count, role = sizes["index_dim"], sizes["index_heads"], "attention.indexer"
    into.matrix("attn.indexer.wq_b", "self_attn.indexer.wq_b", (count * dim, sizes["q_lora"]), ("index", "q_lora"), role, True)
    into.matrix("attn.indexer.wk", "self_attn.indexer.wk", (dim, sizes["hidden"]), ("index", "hidden"), role, True)
    into.matrix("attn.indexer.weights", "self_attn.indexer.weights_proj", (count, sizes["hidden"]), ("index_heads", "hidden"), role, False)
    into.vector("attn.indexer.k_norm", "self_attn.indexer.k_norm.weight", dim, "index", "norms")
    into.vector("attn.indexer.k_norm_bias", "self_attn.indexer.k_norm.bias", dim, "index", "norms")


def draft_ends(into: Collector, sizes: dict[str, int]) -> None:
    """What a draft layer has beside a layer's own: two norms, the projection of both inputs, embedding and head."""
    hidden, vocab = sizes["hidden"], sizes["vocab"]
    into.matrix("embed", "embed_tokens", (vocab, hidden), ("vocab", "hidden"), "embedding", False)
    into.vector("enorm", "enorm.weight", hidden, "hidden", "norms")
    into.vector("hnorm", "hnorm.weight", hidden, "hidden", "norms")
    into.matrix("eh_proj", "eh_proj", (hidden, 2 * hidden), ("hidden", "2*hidden"), "mtp", False)
    into.vector("head_norm", "shared_head.norm.weight", hidden, "hidden", "norms")
    into.matrix("head", "shared_head.head", (vocab, hidden), ("vocab", "hidden"), "mtp", False)
