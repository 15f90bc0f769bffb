"""What decoders are made of, as inventories: attention, feed-forward, experts. `decoder.py` adds what families of the Llama kind share."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from weighbridge.models.inventory import Collector, Inventory, Sizes, Weight

Config = dict[str, Any]
WORDS = ("gate_proj", "up_proj", "down_proj")
TOWERS = ("vision_tower.", "vision_model.", "visual.", "mm_projector.", "multi_modal_projector.", "audio_encoder.", "audio_tower.", "speech_embeddings.")


def decoder_sizes(config: Config, *, experts: str, inter: str = "intermediate_size", head_dim: bool = True) -> tuple[dict[str, int], Sizes]:
    """Sizes of a decoder with experts; `experts` and `inter` name the keys of their number and width. The reader is returned for more, undone."""
    read = Sizes(config)
    sizes = {
        "hidden": read.positive("hidden_size"),
        "layers": read.positive("num_hidden_layers", most=4096),
        "heads": read.positive("num_attention_heads", most=65536),
        "vocab": read.positive("vocab_size"),
        "inter": read.positive(inter),
    }
    sizes["kv_heads"] = read.positive("num_key_value_heads", sizes["heads"], most=65536)
    if head_dim:
        sizes["head_dim"] = read.positive("head_dim", max(1, sizes["hidden"] // sizes["heads"]), most=65536)
        read.require(sizes["heads"] % sizes["kv_heads"] == 0, "num_key_value_heads",
                     f"{sizes['heads']} query heads cannot be shared by {sizes['kv_heads']} key/value heads")
    sizes["experts"] = read.positive(experts, most=65536)
    sizes["top_k"] = read.positive("num_experts_per_tok", most=65536)
    read.require(sizes["top_k"] <= sizes["experts"], "num_experts_per_tok",
                 f"{sizes['top_k']} experts per token, the model has {sizes['experts']}")
    read.require(sizes["layers"] * sizes["experts"] <= 1 << 16, experts, f"{sizes['layers']} layers x {sizes['experts']} experts is no model that exists")
    return sizes, read


def whole_number(read: Sizes, key: str, default: int, most: int = 4096) -> int:
    """A number from 0 on, where 0 means none."""
    value = read.config.get(key, default)
    if value is None:
        return default
    if value == 0 and not isinstance(value, bool):
        return 0
    return read.positive(key, default or 1, most)


def bounded(read: Sizes, sizes: dict[str, int]) -> None:
    """Draft layers count, too, in what no model exceeds."""
    layers = sizes["layers"] + sizes["mtp"]
    read.require(layers * sizes["experts"] <= 1 << 16, "num_nextn_predict_layers", f"{layers} layers x {sizes['experts']} experts is no model that exists")


def ends(into: Collector, sizes: dict[str, int], *, tied: bool, prefix: str = "model.", head: str = "lm_head") -> None:
    """Embedding, final norm and head. Call it last: `at` is left at the top."""
    into.at("", "")
    into.matrix("embed", prefix + "embed_tokens", (sizes["vocab"], sizes["hidden"]), ("vocab", "hidden"), "embedding", False)
    into.vector("norm", prefix + "norm.weight", sizes["hidden"], "hidden", "norms")
    if not tied:
        into.matrix("head", head, (sizes["vocab"], sizes["hidden"]), ("vocab", "hidden"), "lm_head", False)


def norms(into: Collector, hidden: int) -> None:
    into.vector("input_norm", "input_layernorm.weight", hidden, "hidden", "norms")
    into.vector("post_norm", "post_attention_layernorm.weight", hidden, "hidden", "norms")


def attention(into: Collector, sizes: dict[str, int], *, biases: Container[str] = "", qk_norm: str = "none") -> None:
    """q, k, v, o with the biases named (letters of them); `qk_norm` is none, head (one norm for each head) or whole (over all heads)."""
    hidden, dim = sizes["hidden"], sizes["head_dim"]
    query, key = sizes["heads"] * dim, sizes["kv_heads"] * dim
    heads, kv_heads = "heads*head_dim", "kv_heads*head_dim"
    for part, out, axis in (("q", query, heads), ("k", key, kv_heads), ("v", key, kv_heads)):
        into.matrix(f"attn.{part}", f"self_attn.{part}_proj", (out, hidden), (axis, "hidden"), f"attention.{part}", True)
    into.matrix("attn.o", "self_attn.o_proj", (hidden, query), ("hidden", heads), "attention.o", True)
    for part, out, axis in (("q", query, heads), ("k", key, kv_heads), ("v", key, kv_heads), ("o", hidden, "hidden")):
        if part in biases:
            into.vector(f"attn.{part}_bias", f"self_attn.{part}_proj.bias", out, axis, "biases")
    if qk_norm != "none":
        whole = qk_norm == "whole"
        into.vector("attn.q_norm", "self_attn.q_norm.weight", query if whole else dim, heads if whole else "head_dim", "norms")
        into.vector("attn.k_norm", "self_attn.k_norm.weight", key if whole else dim, kv_heads if whole else "head_dim", "norms")


def mlp(into: Collector, name: str, published: str, hidden: int, inter: int, role: str = "mlp", words: tuple[str, str, str] = WORDS,
        biases: Container[str] = ()) -> None:
    """gate, up and down under `name` and `published`, which end in a dot; those named in `biases` have one."""
    for part, word in zip(("gate", "up", "down"), words, strict=True):
        shape, axes = ((hidden, inter), ("hidden", "inter")) if part == "down" else ((inter, hidden), ("inter", "hidden"))
        into.matrix(name + part, published + word, shape, axes, f"{role}.{part}", True)
        if part in biases:
            into.vector(f"{name}{part}_bias", f"{published}{word}.bias", shape[0], axes[0], "biases")


def experts(into: Collector, name: str, published: str, sizes: dict[str, int], inter: int, words: tuple[str, str, str] = WORDS) -> None:
    """All routed experts, one by one: `experts.{e}.gate`, …"""
    for expert in range(sizes["experts"]):
        mlp(into, f"{name}experts.{expert}.", f"{published}experts.{expert}.", sizes["hidden"], inter, "experts", words)


def router(into: Collector, published: str, sizes: dict[str, int], bias: str = "") -> None:
    """`moe.router`, and `moe.router_bias` where `bias` names it as published."""
    into.matrix("moe.router", published, (sizes["experts"], sizes["hidden"]), ("experts", "hidden"), "router", False)
    if bias:
        into.vector("moe.router_bias", bias, sizes["experts"], "experts", "router.bias")


def tied(config: Config) -> bool:
    """`tie_word_embeddings`; false where the config does not say, as in the classes of these families."""
    return config.get("tie_word_embeddings") is True


def finished(model_type: str, sizes: dict[str, int], into: Collector, *, promised: tuple[str, ...] = (), optional: dict[str, Weight] | None = None,
             foreign: tuple[str, ...] = ()) -> Inventory:
    return Inventory(model_type, sizes, into.weights, promised, optional or {}, foreign)
