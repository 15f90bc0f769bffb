"""A small config of every family, and of what its settings change: the families' tests and the oracle read them."""

from __future__ import annotations

from typing import Any

COMMON: dict[str, Any] = {
    "hidden_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 72, "vocab_size": 64,
    "max_position_embeddings": 128, "tie_word_embeddings": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
ROUTED: dict[str, Any] = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "first_k_dense_replace": 1,
                          "n_shared_experts": 2, "n_group": 1, "topk_group": 1}
LATENT: dict[str, Any] = ROUTED | {"q_lora_rank": 16, "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6,
                                   "num_key_value_heads": 4}
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama-biases-tied": {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "head_dim": 12},
    "mistral": {"model_type": "mistral"},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "attention_bias": True},
    "qwen3-head": {"model_type": "qwen3", "head_dim": 16},
    "qwen3_moe": {"model_type": "qwen3_moe"} | EXPERTS,
    "qwen3_moe-dense": {"model_type": "qwen3_moe", "mlp_only_layers": [1]} | EXPERTS,
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "minimax_m2": {"model_type": "minimax_m2", "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16},
    "deepseek_v3": {"model_type": "deepseek_v3"} | LATENT,
    "deepseek_v3-direct": {"model_type": "deepseek_v3"} | LATENT | {"q_lora_rank": None},
    "deepseek_v32": {"model_type": "deepseek_v32", "index_n_heads": 3, "index_head_dim": 10} | LATENT,
    "glm4_moe": {"model_type": "glm4_moe", "attention_bias": True, "use_qk_norm": True, "head_dim": 12} | ROUTED,
    "glm4_moe-plain": {"model_type": "glm4_moe", "head_dim": 10} | ROUTED,
    "gpt_oss": {"model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 12},
    "mimo_v2_flash": {"model_type": "mimo_v2_flash", "head_dim": 12, "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2,
                      "moe_intermediate_size": 24, "n_group": 1, "topk_group": 1,
                      "layer_types": ["full_attention", "sliding_attention", "full_attention"], "mlp_layer_types": ["dense", "sparse", "sparse"]},
    "llama4_text": {"model_type": "llama4_text", "intermediate_size_mlp": 56, "num_local_experts": 4, "head_dim": 12, "interleave_moe_layer_step": 2},
    "qwen2_moe": {"model_type": "qwen2_moe", "shared_expert_intermediate_size": 32, "decoder_sparse_step": 2} | EXPERTS,
    "olmoe": {"model_type": "olmoe", "num_experts": 4, "num_experts_per_tok": 2},
    "ernie4_5_moe": {"model_type": "ernie4_5_moe", "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24, "moe_num_shared_experts": 2,
                     "moe_layer_start_index": 1},
    "ernie4_5": {"model_type": "ernie4_5", "head_dim": 12},
    "phi3": {"model_type": "phi3"},
    "olmo2": {"model_type": "olmo2"},
    "olmo3": {"model_type": "olmo3", "attention_bias": True},
    "gemma2": {"model_type": "gemma2", "head_dim": 12},
    "gemma3_text": {"model_type": "gemma3_text", "head_dim": 12, "tie_word_embeddings": True},
    "granite": {"model_type": "granite", "mlp_bias": True},
    "smollm3": {"model_type": "smollm3", "attention_bias": True},
    "seed_oss": {"model_type": "seed_oss", "head_dim": 12},
    "seed_oss-biases": {"model_type": "seed_oss", "attention_bias": False, "attention_out_bias": True, "mlp_bias": True},
}


def config_of(variant: str) -> dict[str, Any]:
    """config.json of a variant."""
    return COMMON | VARIANTS[variant]
