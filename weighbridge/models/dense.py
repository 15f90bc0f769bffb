"""Dense decoders that differ in names, norms, biases and defaults alone: a row each. None of them is run.

Source: transformers 5.24 `models/<model_type>/modeling_*.py` and `configuration_*.py`; an oracle test holds names and shapes to what it builds.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from weighbridge.models import decoder, parts
from weighbridge.models.architecture import Settings
from weighbridge.models.inventory import Inventory
from weighbridge.models.sizes import DENSE, Wanted

FEED = parts.FEED
# OLMo norms what attention and feed-forward give, Gemma what they take and what they give.
OUT_NORMS = (("attn_out_norm", "post_attention_layernorm"), ("mlp_out_norm", "post_feedforward_layernorm"))
FOUR_NORMS = (("input_norm", "input_layernorm"), ("attn_out_norm", "post_attention_layernorm"), ("post_norm", "pre_feedforward_layernorm"),
              ("mlp_out_norm", "post_feedforward_layernorm"))


class Row(NamedTuple):
    """One family. `biases`: (flag of the config, its default, what has a bias then). `fused`: q, k, v in one tensor, gate and up in one."""

    defaults: Mapping[str, int] = MappingProxyType({})
    biases: tuple[tuple[str, bool, tuple[str, ...]], ...] = ()
    norms: tuple[tuple[str, str], ...] = parts.NORMS
    qk_norm: str = "none"
    fused: bool = False
    tied: bool = False


QKVO = (("attention_bias", False, ("q", "k", "v", "o")),)
BOTH = (*QKVO, ("mlp_bias", False, FEED))
GEMMA = {"kv_heads": 4, "head_dim": 256}
ROWS = {
    "phi3": Row(fused=True),
    "olmo2": Row(biases=QKVO, norms=OUT_NORMS, qk_norm="whole"),
    "olmo3": Row(biases=QKVO, norms=OUT_NORMS, qk_norm="whole"),
    "gemma2": Row(GEMMA, QKVO, FOUR_NORMS, tied=True),
    "gemma3_text": Row(GEMMA, QKVO, FOUR_NORMS, qk_norm="head", tied=True),
    "granite": Row(biases=BOTH),
    "smollm3": Row({"kv_heads": 4}, BOTH, tied=True),
    "seed_oss": Row({"kv_heads": 8, "head_dim": 128},
                    (("attention_bias", True, ("q", "k", "v")), ("attention_out_bias", False, ("o",)), ("mlp_bias", False, FEED))),
    "ernie4_5": Row({"kv_heads": 2, "head_dim": 128}, (("use_bias", False, ("q", "k", "v", "o", *FEED, "head")),), tied=True),
}


def wanted(config: dict[str, Any]) -> Wanted:
    """The sizes of the row that the model type names."""
    return Wanted(DENSE, ROWS[config["model_type"]].defaults)


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `layers.{l}.attn.q`, `layers.{l}.mlp.gate`, …"""
    read, row = Settings(config), ROWS[config["model_type"]]
    sizes = read.read_sizes(wanted(config))
    biases = frozenset(part for key, default, members in row.biases if read.flag(key, default) for part in members)
    return decoder.build(read, config["model_type"], sizes, lambda into, layer: decoder.mlp(into, sizes, sizes["inter"], biases, row.fused),
                         biases=biases, qk_norm=row.qk_norm, fused=row.fused, norms=row.norms, tied=row.tied)
