"""Qwen3 with experts (`Qwen3MoeForCausalLM`).

Source: transformers 5.23 `models/qwen3_moe/modeling_qwen3_moe.py`: attention as in Qwen3; layer l has experts unless `mlp_only_layers`
names it or (l + 1) is no multiple of `decoder_sparse_step`; softmax over all experts, and the weights of the chosen are
normalized only with `norm_topk_prob`. With `use_sliding_window` every layer slides.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import decoder
from weighbridge.models.architecture import Architecture, Routing, Settings, read_rope, read_windows
from weighbridge.models.inventory import Collector, Inventory
from weighbridge.models.sizes import DENSE, ROUTED, Wanted, first

SIZES = Wanted((*DENSE, *ROUTED), {"kv_heads": 4, "moe_inter": None, "inter": 6144}, {"experts": first("experts", "num_experts")})


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `layers.{l}.attn.q`, `layers.{l}.moe.router`, `layers.{l}.moe.experts.{e}.gate`, `layers.{l}.mlp.gate`, …"""
    read = Settings(config)
    sizes, biases = read.read_sizes(SIZES), _biases(read)
    sparse = sparse_layers(read, sizes)

    def feed(into: Collector, layer: int) -> None:
        if sparse[layer]:
            decoder.experts(into, sizes)
        else:
            decoder.mlp(into, sizes, sizes["inter"])

    return decoder.build(read, "qwen3_moe", sizes, feed, biases=biases, qk_norm="head")


def architecture(config: dict[str, Any]) -> Architecture:
    """What runs."""
    read = Settings(config)
    sizes, biases = read.read_sizes(SIZES), _biases(read)
    window = read_windows(read, sizes["layers"], 4096, per_layer=False, switch=True)
    routing = Routing(sizes["experts"], sizes["top_k"], "softmax", bias=False, normalize=read.flag("norm_topk_prob", False))
    return decoder.describe(read, "qwen3_moe", sizes, read_rope(read, sizes["head_dim"], 10_000.0), biases=biases, window=window, qk_norm="head",
                            sparse=sparse_layers(read, sizes), routing=routing)


def sparse_layers(read: Settings, sizes: dict[str, int]) -> tuple[bool, ...]:
    step = read.positive("decoder_sparse_step", 1, most=65536)
    dense = decoder.listed(read, "mlp_only_layers")
    return tuple(layer not in dense and (layer + 1) % step == 0 for layer in range(sizes["layers"]))


def _biases(read: Settings) -> frozenset[str]:
    return frozenset("qkvo" if read.flag("attention_bias", False) else "")
