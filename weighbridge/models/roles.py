"""Which part a weight plays, from the last words of its name: for families without an inventory, and for what an inventory leaves out."""

from __future__ import annotations

import re

ATTENTION = {
    "q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o", "out_proj": "o", "qkv_proj": "qkv", "query_key_value": "qkv",
    "q_a_proj": "q_a", "q_b_proj": "q_b", "kv_a_proj_with_mqa": "kv_a", "kv_b_proj": "kv_b", "fused_qkv_a_proj_with_mqa": "qkv_a",
    "qkv": "qkv", "wqkv": "qkv", "wq": "q", "wk": "k", "wv": "v", "wo": "o", "wq_a": "q_a", "wq_b": "q_b", "wkv": "kv",
    "sinks": "sinks", "attention_sink_bias": "sinks",
}
FEED_FORWARD = {
    "gate_proj": "gate", "up_proj": "up", "down_proj": "down", "w1": "gate", "w3": "up", "w2": "down", "gate_up_proj": "gate_up",
    "w13": "gate_up", "fc1": "up", "fc2": "down",
}
ATTENTION_PARENTS = {"self_attn", "attn", "attention", "linear_attn"}
EMBEDDINGS = {"embed_tokens", "tok_embeddings", "word_embeddings", "wte", "embed"}
HEADS = {"lm_head", "output", "head"}
TOWERS = {"visual": "vision", "vision_tower": "vision", "vision_model": "vision", "mm_projector": "vision", "multi_modal_projector": "vision",
          "audio_encoder": "audio", "audio_tower": "audio", "speech_embeddings": "audio"}
SHARED = {"shared_experts", "shared_expert", "shared_mlp"}
MTP_WORDS = {"eh_proj", "enorm", "hnorm", "shared_head", "mtp"}
_LAYER = re.compile(r"(?:^|\.)(?:layers|blocks|h)\.(\d+)\.")


def layer_of(name: str) -> int:
    """The number of the layer that a name belongs to, or -1."""
    found = _LAYER.search(name)
    return int(found[1][:9]) if found else -1


def role_of(module: str, leaf: str) -> str:
    """Role of `module.leaf`, `leaf` being the last word of the weight's name (`weight`, `bias`, a fused expert's name)."""
    words = module.split("/")[-1].split(".") if module else []
    if words and words[0] in TOWERS:
        return TOWERS[words[0]]
    everything = {*words, leaf}
    last = words[-1] if words and leaf in ("weight", "bias") else leaf
    if "router" in leaf or "correction_bias" in leaf or (leaf == "bias" and last in ("router", "linear_router", "gate")):
        return "router.bias"
    if any("norm" in word for word in everything) or leaf == "layernorm":
        return "norms"
    if "indexer" in everything:
        return "attention.indexer"
    return _linear_role(words, last, everything, leaf)


def _linear_role(words: list[str], last: str, everything: set[str], leaf: str) -> str:
    if last.endswith("_bias") and last != "attention_sink_bias":
        return "biases"
    if last in EMBEDDINGS:
        return "embedding"
    if "shared_head" in everything or last in ("eh_proj", "enc_proj"):
        return "mtp"
    if leaf == "bias":
        return "biases"
    if last in ("gate", "linear_router", "router") or (last == "classifier" and "router" in everything):
        return "router"
    if last in FEED_FORWARD:
        if everything & SHARED:
            return "shared_experts." + FEED_FORWARD[last]
        group = "experts" if "experts" in everything or "expert_mlps" in everything else "mlp"
        return f"{group}.{FEED_FORWARD[last]}"
    if last in ATTENTION or everything & ATTENTION_PARENTS:
        return "attention." + ATTENTION.get(last, "other")
    if last in HEADS and len(words) <= 3:
        return "lm_head"
    return "other"
