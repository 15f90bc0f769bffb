"""MiMo-V2-Flash and MiMo-V2.5: windowed and full attention in turn, wide q and k, narrow v, sigmoid-routed experts.

Source: the headers of MiMo-V2.5, transformers 5.24 `models/mimo_v2_flash/`, and for the fused rows sgl-project/sglang-jax
`srt/models/mimo_v2_pro.py`. Windowed layers (1 in `hybrid_layer_pattern`) have sizes of their own and a sink bias.

The Flash model stores q, k and v apart. V2.5 stores one `qkv_proj` of four slices, as tensor parallelism over four ranks left them: in each
slice a quarter of q, of k and of v, and a block grid of its own (13568 rows are 4 x 3392, and 108 scale rows 4 x 27). A block may lie over
the border of k and v inside a slice, so a slice is one logical matrix `attn.qkv.{0..3}`, and q, k and v are not.

The draft layers (`model.mtp.layers.N`) are windowed and dense. The config does not count them; the published files hold three.
"""

from __future__ import annotations

from typing import Any

from weighbridge.models import parts
from weighbridge.models.architecture import Settings
from weighbridge.models.inventory import Collector, Inventory
from weighbridge.models.sizes import DENSE, ROUTED, Wanted, first

WINDOWED = ("swa_heads", "swa_kv_heads", "swa_head_dim", "swa_v_dim")
SIZES = Wanted((*DENSE, *ROUTED, "v_dim", *WINDOWED, "mtp"), {"kv_heads": 4, "head_dim": 192, "v_dim": 128, "moe_inter": None, "mtp": 3},
               {"experts": first("experts", "n_routed_experts")})
SLICES = 4
ROWS = {"q": "heads*head_dim", "k": "kv_heads*head_dim", "v": "kv_heads*v"}
DRAFT_NORMS = (("input_norm", "input_layernorm"), ("post_norm", "pre_mlp_layernorm"), ("enorm", "enorm"), ("hnorm", "hnorm"),
               ("final_norm", "final_layernorm"))


def inventory(config: dict[str, Any]) -> Inventory:
    """Every logical weight: `layers.{l}.attn.q` or `layers.{l}.attn.qkv.{0..3}`, `layers.{l}.attn.sinks`, …; `mtp.{n}` are optional."""
    read = Settings(config)
    sizes, tied, fused = read.read_sizes(SIZES), parts.tied(read), config.get("model_type") == "mimo_v2"
    if not read.stated["swa_kv_heads"]:
        sizes["swa_kv_heads"] = 2 * sizes["kv_heads"]  # transformers 5 builds it so, and saves no key
    windowed = _pattern(read, ("hybrid_layer_pattern", "layer_types"), sizes["layers"], "sliding_attention", 0)
    routed = _pattern(read, ("moe_layer_freq", "mlp_layer_types"), sizes["layers"], "sparse", 1)
    kinds = {kind: _Kind.of(read, sizes, kind, fused) for kind in (False, True)}
    read.done()
    into, draft = Collector(), Collector()
    parts.embedding(into, sizes)
    for layer in range(sizes["layers"]):
        into.at(f"layers.{layer}.", f"model.layers.{layer}.")
        parts.norms(into, sizes["hidden"])
        kinds[bool(windowed[layer])].attention(into)
        if routed[layer]:
            parts.router(into, "mlp.gate", sizes, "mlp.gate.e_score_correction_bias")
            parts.experts(into, "moe.", "mlp.", sizes, sizes["moe_inter"])
        else:
            parts.mlp(into, "mlp.", "mlp.", sizes["hidden"], sizes["inter"])
    parts.ends(into, sizes, tied=tied)
    for number in range(sizes["mtp"]):
        draft.at(f"mtp.{number}.", f"model.mtp.layers.{number}.")
        parts.norms(draft, sizes["hidden"], DRAFT_NORMS)
        draft.matrix("eh_proj", "eh_proj", (sizes["hidden"], 2 * sizes["hidden"]), ("hidden", "2*hidden"), "mtp", False)
        kinds[True].attention(draft)
        parts.mlp(draft, "mlp.", "mlp.", sizes["hidden"], sizes["inter"])
    return parts.finished(str(config.get("model_type")), sizes, into, drafts=draft, foreign=parts.TOWERS)


class _Kind:
    """The attention of full or of windowed layers."""

    def __init__(self, heads: int, rows: dict[str, int], width: int, hidden: int, fused: bool, sinks: bool) -> None:
        self.heads, self.rows, self.width, self.hidden, self.fused, self.sinks = heads, rows, width, hidden, fused, sinks

    @classmethod
    def of(cls, read: Settings, sizes: dict[str, int], windowed: bool, fused: bool) -> _Kind:
        at, key = ("swa_", "swa_num_key_value_heads") if windowed else ("", "num_key_value_heads")
        heads, kv_heads, dim, v_dim = (sizes[at + name] for name in ("heads", "kv_heads", "head_dim", "v_dim"))
        read.require(not fused or kv_heads % SLICES == 0, key, f"{kv_heads} key/value heads cannot be cut into the {SLICES} slices of qkv_proj")
        sinks = read.flag("add_swa_attention_sink_bias", True) if windowed else read.flag("add_full_attention_sink_bias", False)
        return cls(heads, {"q": heads * dim, "k": kv_heads * dim, "v": kv_heads * v_dim}, heads * v_dim, sizes["hidden"], fused, sinks)

    def attention(self, into: Collector) -> None:
        if self.fused:
            rows = sum(self.rows.values()) // SLICES
            for number in range(SLICES):
                into.matrix(f"attn.qkv.{number}", "", (rows, self.hidden), ("(q+k+v)/4", "hidden"), "attention.qkv", True)
            into.form("self_attn.qkv_proj", ".weight", [tuple(f"attn.qkv.{number}" for number in range(SLICES))], "attention.qkv")
        else:
            for part, out in self.rows.items():
                into.matrix(f"attn.{part}", f"self_attn.{part}_proj", (out, self.hidden), (ROWS[part], "hidden"), f"attention.{part}", True)
        into.matrix("attn.o", "self_attn.o_proj", (self.hidden, self.width), ("hidden", "heads*v"), "attention.o", True)
        if self.sinks:
            into.vector("attn.sinks", "self_attn.attention_sink_bias", self.heads, "heads", "attention.sinks")
            parts.renamed(into, "attn.sinks", "self_attn.sinks", "")


def _pattern(read: Settings, keys: tuple[str, str], layers: int, word: str, default: int) -> list[int]:
    """One 0 or 1 for each layer: as the makers' config has it (zeros and ones), or as transformers 5 saves it (1 where it says `word`)."""
    key = next((key for key in keys if read.get(key) is not None), None)
    if key is None:
        return [default] * layers
    value = read.get(key)
    ones = [v if v in (0, 1) else int(v == word) if isinstance(v, str) else None for v in value] if isinstance(value, list) else []
    good = len(ones) >= layers and None not in ones
    read.require(good, key, f"is no list of one kind for each of {layers} layers")
    return ones if good else [default] * layers  # type: ignore[return-value]
