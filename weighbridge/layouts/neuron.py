"""`neuron`: the files that NxD Inference loads for MiniMax-M2 (its *file* stage), and what its loader makes of them.

Three stages carry different names. *File*: on disk. *Converted*: what `get_state_dict` returns. *Module*:
keys of the per-rank shards (`neuron_shards.py`). HF attention names and NxD names for router and experts
are the file names that every version of the loader takes (docs/neuron.md, "The state dict").
"""

from __future__ import annotations

from functools import cache

from weighbridge.formats.scheme import Encoding, filled, plain
from weighbridge.formats.schemes import SCHEMES
from weighbridge.errors import Problem, Refused
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Placement, Stored, join, stack, turned, whole
from weighbridge.models.inventory import Inventory
from weighbridge.runtimes import neuron as reader

EXPERTS = "block_sparse_moe.expert_mlps.mlp_op"
FAMILY = "minimax_m2"


def stored(inventory: Inventory, options: Options) -> list[Stored]:
    """The file stage: one file per layer, and one for embedding, final norm and head. Refuses every family but MiniMax-M2."""
    refuse_other_families(inventory)
    rest = "model-rest.safetensors"
    out = [
        Stored("embed_tokens", ".weight", rest, whole(inventory["embed"]), None),
        Stored("norm", ".weight", rest, whole(inventory["norm"]), None),
        Stored("lm_head", ".weight", rest, whole(inventory["head"]), None),
    ]
    digits = len(str(inventory.sizes["layers"] - 1))
    for layer in range(inventory.sizes["layers"]):
        file = f"model-layer-{layer:0{digits}d}.safetensors"
        out += _attention(inventory, options, layer, file) + _experts(inventory, options, layer, file)
    return out


def requires(inventory: Inventory, options: Options) -> list[Problem]:
    """Widths that NxD can hold (R25), the scale rule that must be named, and degrees that its rules allow."""
    problems = _other_family(inventory)
    if problems:
        return problems
    rows, columns = options.block
    for key, name, block in (("inter", "intermediate_size", rows), ("hidden", "hidden_size", columns),
                             ("hidden", "hidden_size", rows), ("inter", "intermediate_size", columns)):
        size = inventory.sizes[key]
        if size % block and not any(name in p.where for p in problems):
            problems.append(Problem("ragged", f"R25: {name} {size} is not a multiple of the block {block}; NxD computes the grid by floor "
                                    "division and checks nothing", f"config.json: {name}",
                                    "no NxD layout holds this model in block FP8; convert to hf-bf16"))
    if options.scale_rule == "reciprocal" and "reciprocal" not in options.allow:
        problems.append(Problem("reciprocal", "scale = 1/weight_scale_inv makes the weights about 1e8 times too large: weight_scale_inv is a "
                                "multiplier, as .scale is", "--scale-rule reciprocal", "leave --scale-rule away; to see the damage, add --allow reciprocal"))
    return problems or _degrees(inventory, options)


def _other_family(inventory: Inventory) -> list[Problem]:
    if inventory.model_type == FAMILY:
        return []
    return [Problem("family", f"model_type is {inventory.model_type!r:.80}; what NxD Inference loads is known for {FAMILY} alone", "config.json: model_type",
                    "convert to hf-fp8 or hf-bf16")]


def refuse_other_families(inventory: Inventory) -> None:
    """Before names are touched: no other family has a file stage here."""
    problems = _other_family(inventory)
    if problems:
        raise Refused(problems)


def _degrees(inventory: Inventory, options: Options) -> list[Problem]:
    parallel, problems = parallelism(inventory, options)
    per_head = options.block[1]
    if options.attention == "exact" and inventory.sizes["head_dim"] % per_head and reader.query_heads(inventory.sizes, parallel.tp) != inventory.sizes["heads"]:
        problems.append(Problem("block-grid", f"heads are {inventory.sizes['head_dim']} wide, the block is {per_head}: zero heads between them would cut blocks",
                                "o_proj: columns", f"use --attention row, or a TP that pads no head: --tp {inventory.sizes['kv_heads']}"))
    return problems


def parallelism(inventory: Inventory, options: Options) -> tuple[reader.Parallel, list[Problem]]:
    """The degrees of this run, filled in where the user left them open."""
    return reader.choose(inventory.sizes, options.block[0], options.tp, options.moe_tp, options.moe_ep, options.batch)


def attention_encoding(options: Options, projection: str, columns: int) -> Encoding:
    """Encoding of q, k, v or o (`projection`) with `columns` stored columns."""
    if options.attention == "bf16" or (options.attention == "published" and projection == "o"):
        return plain("BF16")
    return codes((1, options.block[1]) if options.attention == "exact" else (1, columns))


def expert_encoding(options: Options) -> Encoding:
    """Encoding of the stacked experts: stored axes are [in, out], so the block is turned."""
    rows, columns = options.block
    return codes((1, rows) if options.attention == "exact" else (columns, rows))


@cache
def codes(block: tuple[int, int], scale_dtype: str = "F32") -> Encoding:
    """FP8 up to 240 with one scale for each block of stored axes. One object for equal encodings: plans look ways up by it."""
    return filled(SCHEMES["neuron-fp8"], block, dtypes={".scale": scale_dtype})


def _attention(inventory: Inventory, options: Options, layer: int, file: str) -> list[Stored]:
    logical, name = f"layers.{layer}.", f"layers.{layer}."
    out = [
        Stored(f"{name}{stored_name}", ".weight", file, whole(inventory[logical + weight]), None)
        for weight, stored_name in (("input_norm", "input_layernorm"), ("post_norm", "post_attention_layernorm"),
                                    ("attn.q_norm", "self_attn.q_norm"), ("attn.k_norm", "self_attn.k_norm"))
    ]
    for projection in "qkvo":
        placed = whole(inventory[f"{logical}attn.{projection}"])
        encoding = attention_encoding(options, projection, placed.cols)
        slots, width = _scale_slots(inventory, options) if projection == "o" else (None, 0)
        out.append(Stored(f"{name}self_attn.{projection}_proj", ".weight", file, placed, encoding, slots, width))
    return out


def _scale_slots(inventory: Inventory, options: Options) -> tuple[tuple[int, ...] | None, int]:
    """o_proj's block scales lie padded in the file already: the load hook pads the weight only (docs/neuron.md)."""
    if options.attention != "exact":
        return None, 0
    sizes, tp = inventory.sizes, parallelism(inventory, options)[0].tp
    block, head = options.block[1], sizes["head_dim"]
    if reader.query_heads(sizes, tp) == sizes["heads"]:
        return None, 0
    each = max(1, head // block)
    slots = [place * each + j for place, real in enumerate(reader.query_slots(sizes, tp)) if real is not None for j in range(each)]
    return tuple(slots), reader.query_heads(sizes, tp) * each


def gate_up(inventory: Inventory, layer: int, experts: range) -> Placement:
    """[E, H, 2I]: gate first, up behind it, both turned to [in, out]."""
    moe = f"layers.{layer}.moe.experts."
    return stack(join(1, turned(inventory[f"{moe}{e}.gate"]), turned(inventory[f"{moe}{e}.up"])) for e in experts)


def down(inventory: Inventory, layer: int, experts: range) -> Placement:
    """[E, I, H]."""
    return stack(turned(inventory[f"layers.{layer}.moe.experts.{e}.down"]) for e in experts)


def _experts(inventory: Inventory, options: Options, layer: int, file: str) -> list[Stored]:
    moe, name = f"layers.{layer}.moe.", f"layers.{layer}."
    experts, encoding = range(inventory.sizes["experts"]), expert_encoding(options)
    return [
        Stored(f"{name}block_sparse_moe.router.linear_router", ".weight", file, whole(inventory[moe + "router"]), None),
        Stored(f"{name}block_sparse_moe.router.e_score_correction_bias", "", file, whole(inventory[moe + "router_bias"]), None),
        Stored(f"{name}{EXPERTS}.gate_up_proj", ".weight", file, gate_up(inventory, layer, experts), encoding),
        Stored(f"{name}{EXPERTS}.down_proj", ".weight", file, down(inventory, layer, experts), encoding),
    ]


def converted(inventory: Inventory, options: Options) -> list[Stored]:
    """The *converted* stage: what `get_state_dict` returns, with norms padded and rank tensors added."""
    sizes, tp = inventory.sizes, parallelism(inventory, options)[0].tp
    ranks = tuple(range(tp))
    out = [constant("rank_util.rank", ranks)]
    for s in stored(inventory, options):
        out.append(_as_converted(s, sizes, tp))
    return out + [constant(f"layers.{layer}.self_attn.rank_util.rank", ranks) for layer in range(sizes["layers"])]


def _as_converted(s: Stored, sizes: dict[str, int], tp: int) -> Stored:
    head = sizes["head_dim"]
    layer, _, leaf = s.stem.rpartition(".self_attn.")
    if leaf in ("q_proj", "k_proj", "v_proj"):
        return s._replace(stem=f"{layer}.self_attn.qkv_proj.{leaf}")
    if leaf == "q_norm":
        return s._replace(placement=s.placement.spread(1, head, reader.query_slots(sizes, tp)))
    if leaf == "k_norm":
        return s._replace(placement=s.placement.spread(1, head, reader.kv_slots(sizes, tp)))
    return s


def constant(name: str, values: tuple[int, ...], shape: tuple[int, int] | None = None) -> Stored:
    lead, cols = shape or (1, len(values))
    placed = Placement(1, lead, cols, (), vector=shape is None)
    return Stored(name, "", "", placed, plain("I32"), constant=values)
