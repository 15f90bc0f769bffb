"""Sizes of a model from its config.json, whatever the family: for rules that need no inventory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LARGEST = 1 << 24


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Sizes that the config states; 0 where it states none, or nothing that can be a size. `inter` is the dense width, `moe_inter` an expert's."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    inter: int
    moe_inter: int
    shared_inter: int
    experts: int
    top_k: int
    vocab: int
    context: int
    kv_lora: int  # multi-head latent attention (DeepSeek): width of the compressed key and value
    rope_dim: int
    tied: bool


def model_sizes(config: dict[str, Any]) -> ModelSizes:
    """Read from config.json, or from its `text_config` where the language model stands there (Kimi-K2.5, VLMs)."""
    text = config.get("text_config")
    text = text if isinstance(text, dict) else config

    def size(*keys: str) -> int:
        for settings in (text, config):
            for key in keys:
                value = settings.get(key)
                if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST:
                    return value
        return 0

    heads, hidden = size("num_attention_heads", "n_head"), size("hidden_size", "n_embd")
    experts = size("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
    inter = size("intermediate_size", "ffn_hidden_size", "n_inner")
    moe_inter = size("moe_intermediate_size", "moe_ffn_hidden_size") or (inter if experts else 0)
    shared = size("shared_expert_intermediate_size", "shared_intermediate_size") or moe_inter * size("n_shared_experts")
    head_dim = size("head_dim") or (size("qk_nope_head_dim") + size("qk_rope_head_dim")) or (hidden // heads if heads else 0)
    tied = text.get("tie_word_embeddings", config.get("tie_word_embeddings"))
    return ModelSizes(
        hidden, size("num_hidden_layers", "n_layer"), heads, size("num_key_value_heads") or heads, head_dim,
        size("v_head_dim") or head_dim, inter, moe_inter, shared, experts, size("num_experts_per_tok", "moe_topk", "experts_per_token"),
        size("vocab_size"), size("max_position_embeddings"), size("kv_lora_rank"), size("qk_rope_head_dim"), tied is True)
