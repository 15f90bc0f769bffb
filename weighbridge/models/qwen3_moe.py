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


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `layers.{l}.attn.q`, `layers.{l}.moe.router`, `layers.{l}.moe.experts.{e}.gate`, `layers.{l}.mlp.gate`, …"""
    read = Settings(config)
    sizes, biases = _sizes(read), _biases(read)
    sparse = _sparse(read, sizes)

    def feed(into: Collector, layer: int) -> None:
        if sparse[layer]:
            decoder.experts(into, sizes, "mlp", ("gate_proj", "up_proj", "down_proj"))
        else:
            decoder.mlp(into, sizes, sizes["dense_inter"])

    return decoder.build(read, "qwen3_moe", sizes, feed, biases=biases, qk_norm="head")


def architecture(config: dict[str, Any]) -> Architecture:
    """What runs."""
    read = Settings(config)
    sizes, biases = _sizes(read), _biases(read)
    window = read_windows(read, sizes["layers"], 4096, per_layer=False, switch=True)
    routing = Routing(sizes["experts"], sizes["top_k"], "softmax", bias=False, normalize=read.flag("norm_topk_prob", False))
    return decoder.describe(read, "qwen3_moe", sizes, read_rope(read, sizes["head_dim"], 10_000.0), biases=biases, window=window, qk_norm="head",
                            sparse=_sparse(read, sizes), routing=routing)


def _sizes(read: Settings) -> dict[str, int]:
    sizes = decoder.read_sizes(read, kv_heads=4)
    decoder.read_experts(read, sizes, "num_experts" if "num_experts" in read.config else "num_local_experts", "moe_intermediate_size")
    if not all(_sparse(read, sizes)):
        sizes["dense_inter"] = read.positive("intermediate_size")
    return sizes


def _sparse(read: Settings, sizes: dict[str, int]) -> tuple[bool, ...]:
    step = read.positive("decoder_sparse_step", 1, most=65536)
    dense = decoder.listed(read.config, "mlp_only_layers")
    return tuple(layer not in dense and (layer + 1) % step == 0 for layer in range(sizes["layers"]))


def _biases(read: Settings) -> frozenset[str]:
    return frozenset("qkvo" if read.flag("attention_bias", False) else "")
