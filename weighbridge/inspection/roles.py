"""Which part a tensor plays, from its name: by the family's inventory where it is known, else by its last words.

Names repeat from layer to layer, so a role is found once for each *key* (the name without its layer number).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.models import FAMILIES, inventory

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


def key_of(name: str) -> str:
    """The name without its layer number: `model.layers.7.x` and `model.layers.8.x` are both `model.layers.x`."""
    start = name.find("layers.") + 7
    if start < 7:
        return name
    end = name.find(".", start)
    return name[:start] + name[end + 1:] if name[start:end].isdigit() else name


def keys_of(names: Iterable[str]) -> list[str]:
    """`key_of` each name. Neighbours share their layer, so its prefix is looked for once in a run of names."""
    keys: list[str] = []
    prefix, base = "\0", ""
    for name in names:
        if name.startswith(prefix):
            keys.append(base + name[len(prefix):])
            continue
        key = key_of(name)
        keys.append(key)
        if key is not name:
            base = name[: name.find("layers.") + 7]
            prefix = name[: name.find(".", len(base)) + 1]
    return keys


def family_roles(config: dict[str, Any]) -> tuple[dict[str, str], str]:
    """Role by key for a known family, and why its inventory cannot be made (if so). One layer names them all."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        return {}, ""
    one = _of_one_layer(config)
    if isinstance(config.get("text_config"), dict):
        one["text_config"] = _of_one_layer(config["text_config"])
    try:
        weights = inventory(one).weights.values()
    except WeighbridgeError as error:
        return {}, str(error)
    return {key_of(w.published): w.role for w in weights}, ""


def _of_one_layer(config: dict[str, Any]) -> dict[str, Any]:
    """The config of the same model with one layer and no draft layer: its inventory is small, and has every key."""
    layers = config.get("num_hidden_layers")
    less = {"num_hidden_layers": 1} if isinstance(layers, int) and layers > 0 else {}
    return {**config, **less, **({"num_nextn_predict_layers": 0} if "num_nextn_predict_layers" in config else {})}


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
