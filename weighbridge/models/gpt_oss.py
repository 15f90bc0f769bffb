"""gpt-oss 20B and 120B (`GptOssForCausalLM`): biases everywhere, attention sinks, all experts of a layer in one stored tensor.

Source: transformers 5.24 `models/gpt_oss/modeling_gpt_oss.py` and the headers of gpt-oss-20b. Rows of gate and up alternate (row 2i is gate i,
row 2i + 1 is up i), so each expert has one matrix `gate_up` [2*inter, hidden], and its bias alternates, too. Plain values are stored turned,
[experts, hidden, 2*inter]; MXFP4 codes, whose names end in `_blocks`, as [experts, 2*inter, hidden]. Hidden and intermediate width of the
published models are equal, so the shape does not tell which of the two a tensor is: its name does.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import parts
from weighbridge.models.inventory import Collector, Inventory
from weighbridge.models.sizes import DENSE, ROUTED, Sizes, Wanted

SIZES = Wanted((*DENSE, *ROUTED), {"kv_heads": 8, "head_dim": 64}, {"moe_inter": ()})


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `layers.{l}.attn.sinks`, `layers.{l}.moe.experts.{e}.gate_up`, …"""
    read = Sizes(config)
    sizes, tied = read.read_sizes(SIZES), parts.tied(read)
    read.done()
    into = Collector()
    parts.embedding(into, sizes)
    for layer in range(sizes["layers"]):
        into.at(f"layers.{layer}.", f"model.layers.{layer}.")
        parts.norms(into, sizes["hidden"])
        parts.attention(into, sizes, biases="qkvo")
        into.vector("attn.sinks", "self_attn.sinks", sizes["heads"], "heads", "attention.sinks")
        parts.router(into, "mlp.router", sizes, "mlp.router.bias")
        _experts(into, sizes)
    parts.ends(into, sizes, tied=tied)
    return parts.finished("gpt_oss", sizes, into)


def _experts(into: Collector, sizes: dict[str, int]) -> None:
    hidden, inter, numbers = sizes["hidden"], sizes["moe_inter"], range(sizes["experts"])
    for e in numbers:
        at = f"moe.experts.{e}."
        into.matrix(at + "gate_up", "", (2 * inter, hidden), ("2*inter", "hidden"), "experts.gate_up", True)
        into.vector(at + "gate_up_bias", "", 2 * inter, "2*inter", "biases")
        into.matrix(at + "down", "", (hidden, inter), ("hidden", "inter"), "experts.down", True)
        into.vector(at + "down_bias", "", hidden, "hidden", "biases")
    for part in ("gate_up", "down"):
        stem, slices = f"mlp.experts.{part}_proj", [(f"moe.experts.{e}.{part}",) for e in numbers]
        into.form(stem, "", slices, f"experts.{part}", stacked=True, turned=True)
        into.form(stem, "_blocks", slices, f"experts.{part}", stacked=True)
        into.form(stem + "_bias", "", [(f"moe.experts.{e}.{part}_bias",) for e in numbers], "biases", stacked=True)
