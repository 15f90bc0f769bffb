"""MiMo-V2-Flash and MiMo-V2.5: windowed and full attention in turn, wide q and k, narrow v, sigmoid-routed experts.

Source: the headers and config of MiMo-V2.5. It stores q, k and v of a layer as one `qkv_proj`; the Flash model stores them apart. Windowed
layers (1 in `hybrid_layer_pattern`) have sizes of their own and a sink bias. Draft layers, towers and their projections are not described.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import parts
from weighbridge.models.inventory import Collector, Inventory, Sizes


def inventory(config: dict[str, Any]) -> Inventory:
    sizes, read = parts.decoder_sizes(config, experts="n_routed_experts", inter="moe_intermediate_size")
    sizes |= {"dense_inter": read.positive("intermediate_size"), "shared_experts": 0, "v_dim": read.positive("v_head_dim", sizes["head_dim"], most=65536)}
    for key, name in (("heads", "num_attention_heads"), ("kv_heads", "num_key_value_heads"), ("head_dim", "head_dim"), ("v_dim", "v_head_dim")):
        sizes["swa_" + key] = read.positive("swa_" + name, sizes[key], most=65536)
    windowed, routed = _pattern(read, "hybrid_layer_pattern", sizes["layers"], 0), _pattern(read, "moe_layer_freq", sizes["layers"], 1)
    read.done()
    fused = config.get("model_type") == "mimo_v2"
    into = Collector()
    for layer in range(sizes["layers"]):
        into.at(f"layers.{layer}.", f"model.layers.{layer}.")
        parts.norms(into, sizes["hidden"])
        _attention(into, sizes, bool(windowed[layer]), fused, config)
        if routed[layer]:
            parts.router(into, "mlp.gate", sizes, "mlp.gate.e_score_correction_bias")
            parts.experts(into, "moe.", "mlp.", sizes, sizes["inter"])
        else:
            parts.mlp(into, "mlp.", "mlp.", sizes["hidden"], sizes["dense_inter"])
    parts.ends(into, sizes, tied=parts.tied(config))
    return parts.finished(str(config.get("model_type")), sizes, into, foreign=(*parts.TOWERS, "model.mtp."))


def _pattern(read: Sizes, key: str, layers: int, default: int) -> list[int]:
    """One 0 or 1 for each layer."""
    value = read.config.get(key)
    if value is None:
        return [default] * layers
    good = isinstance(value, list) and len(value) >= layers and all(v in (0, 1) for v in value)
    read.require(good, key, f"is no list of at least {layers} zeros and ones")
    return value if good else [default] * layers


def _attention(into: Collector, sizes: dict[str, int], windowed: bool, fused: bool, config: dict[str, Any]) -> None:
    at = "swa_" if windowed else ""
    heads, kv_heads, dim, v_dim, hidden = sizes[at + "heads"], sizes[at + "kv_heads"], sizes[at + "head_dim"], sizes[at + "v_dim"], sizes["hidden"]
    rows = {"q": heads * dim, "k": kv_heads * dim, "v": kv_heads * v_dim}
    if fused:
        into.matrix("attn.qkv", "self_attn.qkv_proj", (sum(rows.values()), hidden), ("q+k+v", "hidden"), "attention.qkv", True)
    else:
        for part, out in rows.items():
            into.matrix(f"attn.{part}", f"self_attn.{part}_proj", (out, hidden), ("heads*head_dim", "hidden"), f"attention.{part}", True)
    into.matrix("attn.o", "self_attn.o_proj", (hidden, heads * v_dim), ("hidden", "heads*v"), "attention.o", True)
    if config.get("add_swa_attention_sink_bias" if windowed else "add_full_attention_sink_bias") is True:
        into.vector("attn.sinks", "self_attn.attention_sink_bias", heads, "heads", "attention.sinks")
