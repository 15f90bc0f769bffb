"""Families of the Llama kind as a whole: their inventory from parts, and their forward pass as data.

Published names (transformers 5.24, `models/<family>/modeling_<family>.py`): `model.layers.N.self_attn.{q,k,v,o}_proj`,
`mlp.{gate,up,down}_proj`, `input_layernorm`, `post_attention_layernorm`, `model.norm`, `model.embed_tokens`, `lm_head`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weighbridge.models import parts
from weighbridge.models.architecture import Architecture, Rope, Routing, Settings
from weighbridge.models.inventory import Collector, Inventory
from weighbridge.models.sizes import LONGEST

Sizes = dict[str, int]
Feed = Callable[[Collector, int], None]  # collects the mlp or the experts of one layer


def build(read: Settings, family: str, sizes: Sizes, feed: Feed, *, biases: frozenset[str] = frozenset(), qk_norm: str = "none", fused: bool = False,
          norms: tuple[tuple[str, str], ...] = parts.NORMS, tied: bool = False, prefix: str = "model.", head: str = "lm_head",
          promised: tuple[str, ...] = (), foreign: tuple[str, ...] = ()) -> Inventory:
    """The inventory; `feed` collects what stands behind the attention of each layer. `tied` is the family's default."""
    shares_embedding = parts.tied(read, tied)
    read.done()
    into = Collector()
    parts.embedding(into, sizes, prefix)
    for layer in range(sizes["layers"]):
        into.at(f"layers.{layer}.", f"{prefix}layers.{layer}.")
        parts.norms(into, sizes["hidden"], norms)
        parts.attention(into, sizes, biases=biases, qk_norm=qk_norm, fused=fused)
        feed(into, layer)
    parts.ends(into, sizes, tied=shares_embedding, prefix=prefix, head=head, head_bias="head" in biases)
    return parts.finished(family, sizes, into, promised=promised, foreign=foreign)


def mlp(into: Collector, sizes: Sizes, width: int, biases: frozenset[str] = frozenset(), fused: bool = False) -> None:
    """A dense feed-forward layer of `width`."""
    parts.mlp(into, "mlp.", "mlp.", sizes["hidden"], width, biases=biases, fused=fused)


def experts(into: Collector, sizes: Sizes, block: str = "mlp", names: tuple[str, str, str] = parts.WORDS, bias: str = "") -> None:
    """A router `{block}.gate` and experts `{block}.experts.N` whose gate, up and down are called `names`; `bias`: of the choice, as published.

    transformers 5 calls every block `mlp` in memory (`conversion_mapping.py`, "mixtral").
    """
    parts.router(into, f"{block}.gate", sizes, bias and f"{block}.{bias}")
    parts.experts(into, "moe.", f"{block}.", sizes, sizes["moe_inter"], names, stack="mlp.")
    if block != "mlp":
        parts.renamed(into, "moe.router", "mlp.gate")
        if bias:
            parts.renamed(into, "moe.router_bias", f"mlp.{bias}", "")


def describe(read: Settings, family: str, sizes: Sizes, rope: Rope, *, qk_norm: str = "none", biases: frozenset[str] = frozenset(),
             window: tuple[int, ...] = (), sparse: tuple[bool, ...] | None = None, routing: Routing | None = None, eps: float = 1e-6) -> Architecture:
    """The architecture, with what every family reads alike. `eps` is the family's default."""
    layers = sizes["layers"]
    read.one_of("hidden_act", "silu", ("silu",))
    context = read.positive("max_position_embeddings", LONGEST, most=LONGEST)
    small = read.number("rms_norm_eps", eps, 0, 1)
    tied = parts.tied(read)
    read.done()
    return Architecture(family, sizes["hidden"], layers, sizes["heads"], sizes["kv_heads"], sizes["head_dim"], sizes["vocab"], context, small, rope,
                        qk_norm, biases, window or (0,) * layers, sparse or (routing is not None,) * layers, routing, tied, sizes=dict(sizes))


def listed(read: Settings, key: str) -> list[Any]:
    """A list in a config, or an empty one where it is absent or null."""
    value = read.get(key)
    return value if isinstance(value, list) else []
