"""What the families of the Llama kind share: names of their weights, sizes, and how their configs are read.

Published names (transformers 5.23, `models/<family>/modeling_<family>.py`): `model.layers.N.self_attn.{q,k,v,o}_proj`,
`mlp.{gate,up,down}_proj`, `input_layernorm`, `post_attention_layernorm`, `model.norm`, `model.embed_tokens`, `lm_head`.
A tied model has no weight for its head: the embedding is read there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weighbridge.models import parts
from weighbridge.models.architecture import LONGEST, Architecture, Rope, Routing, Settings
from weighbridge.models.inventory import Collector, Inventory

Sizes = dict[str, int]
Feed = Callable[[Collector, int], None]  # collects the mlp or the experts of one layer


def read_sizes(read: Settings, head_dim: int | None = None, kv_heads: int | None = None) -> Sizes:
    """Sizes of embedding and attention. Absent ones are as given, or hidden / heads, or as many as heads."""
    sizes = {
        "hidden": read.positive("hidden_size"),
        "layers": read.positive("num_hidden_layers", most=4096),
        "heads": read.positive("num_attention_heads", most=65536),
        "vocab": read.positive("vocab_size"),
    }
    if read.config.get("num_key_value_heads", kv_heads) is None:
        sizes["kv_heads"] = sizes["heads"]
    else:
        sizes["kv_heads"] = read.positive("num_key_value_heads", kv_heads, most=65536)
    if read.get("head_dim", None) is None and head_dim is None:
        read.require(sizes["hidden"] % sizes["heads"] == 0, "num_attention_heads",
                     f"hidden_size {sizes['hidden']} is not divisible by {sizes['heads']} heads, and head_dim is missing")
        sizes["head_dim"] = max(1, sizes["hidden"] // sizes["heads"])
    else:
        own = read.config.get("head_dim")
        sizes["head_dim"] = read.positive("head_dim", most=65536) if own is not None else int(head_dim or 1)
    read.require(sizes["heads"] % sizes["kv_heads"] == 0, "num_key_value_heads",
                 f"{sizes['heads']} query heads cannot be shared by {sizes['kv_heads']} key/value heads")
    return sizes


def read_experts(read: Settings, sizes: Sizes, experts: str, width: str) -> None:
    """Sizes of the experts, under the family's keys, into `sizes`."""
    sizes |= {"inter": read.positive(width), "experts": read.positive(experts, most=65536), "top_k": read.positive("num_experts_per_tok", most=65536)}
    read.require(sizes["top_k"] <= sizes["experts"], "num_experts_per_tok",
                 f"{sizes['top_k']} experts per token, the model has {sizes['experts']}")
    read.require(sizes["layers"] * sizes["experts"] <= 1 << 16, experts,
                 f"{sizes['layers']} layers x {sizes['experts']} experts is no model that exists")


def build(read: Settings, family: str, sizes: Sizes, feed: Feed, *, biases: frozenset[str] = frozenset(), qk_norm: str = "none") -> Inventory:
    """The inventory; `feed` collects what stands behind the attention of each layer."""
    tied = read.flag("tie_word_embeddings", False)
    read.done()
    into, hidden, vocab = Collector(), sizes["hidden"], sizes["vocab"]
    into.matrix("embed", "model.embed_tokens", (vocab, hidden), ("vocab", "hidden"), "embedding", False)
    for layer in range(sizes["layers"]):
        into.at(f"layers.{layer}.", f"model.layers.{layer}.")
        parts.norms(into, hidden)
        parts.attention(into, sizes, biases=biases, qk_norm=qk_norm)
        feed(into, layer)
    into.at("", "")
    into.vector("norm", "model.norm.weight", hidden, "hidden", "norms")
    if not tied:
        into.matrix("head", "lm_head", (vocab, hidden), ("vocab", "hidden"), "lm_head", False)
    return Inventory(family, sizes, into.weights)


def mlp(into: Collector, sizes: Sizes, width: int, biases: frozenset[str] = frozenset()) -> None:
    """A dense feed-forward layer of `width`."""
    parts.mlp(into, "mlp.", "mlp.", sizes["hidden"], width, biases=biases)


def experts(into: Collector, sizes: Sizes, block: str, names: tuple[str, str, str]) -> None:
    """A router `{block}.gate` and experts `{block}.experts.N` whose gate, up and down are called `names`."""
    parts.router(into, f"{block}.gate", sizes)
    parts.experts(into, "moe.", f"{block}.", sizes, sizes["inter"], names)


def describe(read: Settings, family: str, sizes: Sizes, rope: Rope, *, qk_norm: str = "none", biases: frozenset[str] = frozenset(),
             window: tuple[int, ...] = (), sparse: tuple[bool, ...] | None = None, routing: Routing | None = None, eps: float = 1e-6) -> Architecture:
    """The architecture, with what every family reads alike. `eps` is the family's default."""
    layers = sizes["layers"]
    read.one_of("hidden_act", "silu", ("silu",))
    context = read.positive("max_position_embeddings", LONGEST, most=LONGEST)
    small = read.number("rms_norm_eps", eps, 0, 1)
    tied = read.flag("tie_word_embeddings", False)
    read.done()
    return Architecture(family, sizes["hidden"], layers, sizes["heads"], sizes["kv_heads"], sizes["head_dim"], sizes["vocab"], context, small, rope,
                        qk_norm, biases, window or (0,) * layers, sparse or (routing is not None,) * layers, routing, tied, sizes=dict(sizes))


def listed(config: dict[str, Any], key: str) -> list[Any]:
    """A list in a config, or an empty one where it is absent or null."""
    value = config.get(key)
    return value if isinstance(value, list) else []
