"""What decoders are made of, as inventories: attention, feed-forward, experts, and the forms in which files hold them.

Fused names are those of Phi-3 (`qkv_proj`, `gate_up_proj`: rows of q, k, v and of gate, up one behind the other). Stacked ones are those that
transformers 5 has in memory and may save (`experts.gate_up_proj` [E, 2*inter, hidden], `experts.down_proj` [E, hidden, inter], no `.weight`;
transformers 5.24 `conversion_mapping.py`).
"""

from __future__ import annotations

from collections.abc import Container

from weighbridge.models.inventory import Collector, Inventory
from weighbridge.models.sizes import Sizes

WORDS = ("gate_proj", "up_proj", "down_proj")
NORMS = (("input_norm", "input_layernorm"), ("post_norm", "post_attention_layernorm"))
TOWERS = ("vision_tower.", "vision_model.", "visual.", "mm_projector.", "multi_modal_projector.", "audio_encoder.", "audio_tower.",
          "speech_embeddings.")
FEED = ("gate", "up", "down")


def embedding(into: Collector, sizes: dict[str, int], prefix: str = "model.") -> None:
    into.matrix("embed", prefix + "embed_tokens", (sizes["vocab"], sizes["hidden"]), ("vocab", "hidden"), "embedding", False)


def ends(into: Collector, sizes: dict[str, int], *, tied: bool, prefix: str = "model.", head: str = "lm_head", head_bias: bool = False) -> None:
    """Final norm and head; a tied model has no weight for its head. Call it last: `at` is left at the top."""
    into.at("", "")
    into.vector("norm", prefix + "norm.weight", sizes["hidden"], "hidden", "norms")
    if not tied:
        into.matrix("head", head, (sizes["vocab"], sizes["hidden"]), ("vocab", "hidden"), "lm_head", False)
    if head_bias:
        into.vector("head_bias", head + ".bias", sizes["vocab"], "vocab", "biases")


def norms(into: Collector, hidden: int, names: tuple[tuple[str, str], ...] = NORMS) -> None:
    """Norms over the hidden width: (name, published)."""
    for name, published in names:
        into.vector(name, published + ".weight", hidden, "hidden", "norms")


def attention(into: Collector, sizes: dict[str, int], *, biases: Container[str] = "", qk_norm: str = "none", fused: bool = False,
              names: tuple[str, str] = ("q_norm", "k_norm")) -> None:
    """q, k, v, o with the biases named (letters of them); `qk_norm` is none, head (one norm for each head) or whole (over all heads).

    `fused`: the makers store q, k and v as one `qkv_proj`.
    """
    hidden, dim = sizes["hidden"], sizes["head_dim"]
    query, key = sizes["heads"] * dim, sizes["kv_heads"] * dim
    heads, kv_heads = "heads*head_dim", "kv_heads*head_dim"
    for part, out, axis in (("q", query, heads), ("k", key, kv_heads), ("v", key, kv_heads)):
        into.matrix(f"attn.{part}", "" if fused else f"self_attn.{part}_proj", (out, hidden), (axis, "hidden"), f"attention.{part}", True)
    into.matrix("attn.o", "self_attn.o_proj", (hidden, query), ("hidden", heads), "attention.o", True)
    for part, out, axis in (("q", query, heads), ("k", key, kv_heads), ("v", key, kv_heads), ("o", hidden, "hidden")):
        if part in biases:
            into.vector(f"attn.{part}_bias", "" if fused and part != "o" else f"self_attn.{part}_proj.bias", out, axis, "biases")
    into.form("self_attn.qkv_proj", ".weight", [("attn.q", "attn.k", "attn.v")], "attention.qkv")
    if all(part in biases for part in "qkv"):
        into.form("self_attn.qkv_proj", ".bias", [("attn.q_bias", "attn.k_bias", "attn.v_bias")], "biases")
    if qk_norm != "none":
        whole = qk_norm == "whole"
        into.vector("attn.q_norm", f"self_attn.{names[0]}.weight", query if whole else dim, heads if whole else "head_dim", "norms")
        into.vector("attn.k_norm", f"self_attn.{names[1]}.weight", key if whole else dim, kv_heads if whole else "head_dim", "norms")


def mlp(into: Collector, name: str, published: str, hidden: int, inter: int, role: str = "mlp", words: tuple[str, str, str] = WORDS,
        biases: Container[str] = (), fused: bool = False) -> None:
    """gate, up and down under `name` and `published`, which end in a dot; those named in `biases` have one. `fused`: `gate_up_proj` in the files."""
    _feed(into, name, published, hidden, inter, role, words, biases, fused)
    into.form(published + "gate_up_proj", ".weight", [(name + "gate", name + "up")], f"{role}.gate_up")
    if "gate" in biases and "up" in biases:
        into.form(published + "gate_up_proj", ".bias", [(name + "gate_bias", name + "up_bias")], "biases")


def _feed(into: Collector, name: str, published: str, hidden: int, inter: int, role: str, words: tuple[str, str, str], biases: Container[str] = (),
          fused: bool = False) -> None:
    for part, word in zip(FEED, words, strict=True):
        shape, axes = ((hidden, inter), ("hidden", "inter")) if part == "down" else ((inter, hidden), ("inter", "hidden"))
        own = "" if fused and part != "down" else published + word
        into.matrix(name + part, own, shape, axes, f"{role}.{part}", True)
        if part in biases:
            into.vector(f"{name}{part}_bias", own and f"{own}.bias", shape[0], axes[0], "biases")


def experts(into: Collector, name: str, published: str, sizes: dict[str, int], inter: int, words: tuple[str, str, str] = WORDS,
            stack: str = "", stacked: bool = False, turned: bool = False) -> None:
    """All routed experts, one by one: `experts.{e}.gate`, …; and stacked under `stack` (or `published`), as transformers 5 has them.

    `stacked`: the makers store them so, and `turned` as [in, out].
    """
    numbers = range(sizes["experts"])
    for e in numbers:
        _feed(into, f"{name}experts.{e}.", f"{published}experts.{e}.", sizes["hidden"], inter, "experts", words)
        if stacked:
            for part in FEED:
                full = f"{into.prefix}{name}experts.{e}.{part}"
                into.weights[full] = into.weights[full]._replace(published="")
    stem = (stack or published) + "experts."
    into.form(stem + "gate_up_proj", "", [(f"{name}experts.{e}.gate", f"{name}experts.{e}.up") for e in numbers], "experts.gate_up",
              stacked=True, turned=turned)
    into.form(stem + "down_proj", "", [(f"{name}experts.{e}.down",) for e in numbers], "experts.down", stacked=True, turned=turned)


def router(into: Collector, published: str, sizes: dict[str, int], bias: str = "") -> None:
    """`moe.router`, and `moe.router_bias` where `bias` names it as published."""
    into.matrix("moe.router", published, (sizes["experts"], sizes["hidden"]), ("experts", "hidden"), "router", False)
    if bias:
        into.vector("moe.router_bias", bias, sizes["experts"], "experts", "router.bias")


def renamed(into: Collector, name: str, stem: str, suffix: str = ".weight") -> None:
    """Another name under which tools save a weight."""
    into.form(stem, suffix, [(name,)], into.weights[into.prefix + name].role)


def tied(read: Sizes, default: bool = False) -> bool:
    """`tie_word_embeddings`; `default` is what the family's class says."""
    value = read.get("tie_word_embeddings", default)
    read.require(isinstance(value, bool), "tie_word_embeddings", f"is {value!r:.80}; true or false is needed")
    return value is True


def finished(model_type: str, sizes: dict[str, int], into: Collector, *, promised: tuple[str, ...] = (), drafts: Collector | None = None,
             foreign: tuple[str, ...] = ()) -> Inventory:
    drafts = drafts or Collector()
    return Inventory(model_type, sizes, into.weights, promised, drafts.weights, foreign, (*into.forms, *drafts.forms))
