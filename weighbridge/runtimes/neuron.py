"""AWS Neuron's NxD Inference: heads, parallel sizes and configuration for MiniMax-M2.

Read in NxD 2.29 and NxDI's `contrib/MiniMax-M2` branch. Rule numbers (R14, R37, …) are those of
docs/neuron.md, which lists condition, message and place in the reader's source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import Problem
from weighbridge.runtimes import STACKED

Sizes = dict[str, int]
LARGEST_TP = 64  # NeuronCores of one trn2.48xlarge as NxD counts them

ENVIRONMENT = {"XLA_HANDLE_SPECIAL_SCALAR": "1", "UNSAFE_FP8FNCAST": "1"}


@dataclass(frozen=True, slots=True)
class Parallel:
    """Degrees of one run: `tp` ranks in all; experts cut `moe_ep` ways by number and `moe_tp` ways by width."""

    tp: int
    moe_tp: int
    moe_ep: int
    batch: int


def query_heads(sizes: Sizes, tp: int) -> int:
    """Query heads after padding (NxD parallel_layers/pad.py: round up to a multiple of TP)."""
    return -(-sizes["heads"] // tp) * tp


def kv_heads(sizes: Sizes, tp: int) -> int:
    """Key/value heads after replication (gqa.py `get_shardable_head_counts`)."""
    own = sizes["kv_heads"]
    return tp if own < tp or own % tp else own


def query_slots(sizes: Sizes, tp: int) -> list[int | None]:
    """Which query head lies in each padded slot: after each group of heads its share of zero heads (gqa.py)."""
    groups, heads = sizes["kv_heads"], sizes["heads"]
    size, zeros = heads // groups, (query_heads(sizes, tp) - heads) // groups
    slots: list[int | None] = []
    for group in range(groups):
        slots += [group * size + j for j in range(size)]
        slots += [None] * zeros
    return slots


def kv_slots(sizes: Sizes, tp: int) -> list[int | None]:
    """Which key/value head each rank's slot holds: every head repeated as often as needed, in order."""
    repeats = kv_heads(sizes, tp) // sizes["kv_heads"]
    return [head for head in range(sizes["kv_heads"]) for _ in range(repeats)]


def attention_problems(sizes: Sizes, tp: int, block: int | None = 128) -> list[Problem]:
    """Rules on TP alone: heads (R14), and sizes that NxD cuts without padding (R28)."""
    return [_problem(rule, message, key, f"TP that works: {_listed(tp_sizes(sizes, block))}")
            for rule, message, key in _attention_faults(sizes, tp)]


def tp_fits(sizes: Sizes, tp: int) -> bool:
    """Whether attention, vocabulary and hidden width can be cut `tp` ways."""
    return not any(_attention_faults(sizes, tp))


def _attention_faults(sizes: Sizes, tp: int) -> Iterator[tuple[str, str, str]]:
    own, padded = sizes["kv_heads"], query_heads(sizes, tp)
    if kv_heads(sizes, tp) != own and tp % own:
        yield "R14", f"TP {tp} is no multiple of {own} key/value heads, so they cannot be replicated", "num_key_value_heads"
    elif (padded - sizes["heads"]) % own:
        yield "R14", f"{padded - sizes['heads']} zero heads cannot be shared out to {own} groups", "num_attention_heads"
    elif own == sizes["heads"] and padded != own:
        yield "R14", f"{own} heads without groups need padding to {padded}, which pads at the end", "num_attention_heads"
    for key, name in (("vocab", "vocab_size"), ("hidden", "hidden_size")):
        if sizes[key] % tp:
            yield "R28", f"{name} {sizes[key]} is not divisible by TP {tp}", name


def expert_problems(sizes: Sizes, p: Parallel, block: int | None) -> list[Problem]:
    """Rules on the experts' degrees; `block` is the scale block along the intermediate axis, if there is one."""
    hint = f"moe_tp x moe_ep that works at TP {p.tp}: {_listed(f'{mt} x {me}' for mt, me in pairs(sizes, p.tp, block))}"
    problems = [_problem(rule, message, key, hint) for rule, message, key in _expert_faults(sizes, p, block)]
    if p.moe_ep > 1 and p.batch and p.batch * sizes["top_k"] < sizes["experts"]:
        problems.append(_problem("R42", f"batch {p.batch} x {sizes['top_k']} experts per token < {sizes['experts']} experts; token "
                                 "generation with expert parallelism is refused", "batch_size",
                                 f"use --batch {-(-sizes['experts'] // sizes['top_k'])} or more"))
    return problems


def _expert_faults(sizes: Sizes, p: Parallel, block: int | None) -> Iterator[tuple[str, str, str]]:
    experts, inter = sizes["experts"], sizes.get("moe_inter", sizes["inter"])
    if p.moe_tp * p.moe_ep != p.tp:
        yield "R31/R32", (f"moe_tp {p.moe_tp} x moe_ep {p.moe_ep} = {p.moe_tp * p.moe_ep}, TP is {p.tp}; "
                          "a smaller product counts experts twice, without a message"), "moe_tp_degree"
    if experts % p.moe_ep:
        yield "R28", f"{experts} experts are not divisible by moe_ep {p.moe_ep}", "moe_ep_degree"
    width = inter // p.moe_tp
    if inter % p.moe_tp:
        yield "R28", f"expert width {inter} is not divisible by moe_tp {p.moe_tp}", "moe_tp_degree"
    elif block and width % block:
        yield "R40", (f"expert width {inter}/{p.moe_tp} = {width} rows per rank, the block is {block}: a rank would "
                      "read another block's scale, without a message"), "moe_tp_degree"


def pairs(sizes: Sizes, tp: int, block: int | None) -> list[tuple[int, int]]:
    """All (moe_tp, moe_ep) that the rules allow for `tp`, best first: whole experts, at least two on each rank (R37, R39)."""
    found = [(mt, tp // mt) for mt in range(1, tp + 1)
             if tp % mt == 0 and not any(_expert_faults(sizes, Parallel(tp, mt, tp // mt, 0), block))]
    return sorted(found, key=lambda pair: (sizes["experts"] // pair[1] < 2, pair[0]))


def tp_sizes(sizes: Sizes, block: int | None) -> list[int]:
    """All TP degrees up to 64 that attention, vocabulary and experts allow."""
    return [tp for tp in range(1, LARGEST_TP + 1) if tp_fits(sizes, tp) and pairs(sizes, tp, block)]


def choose(sizes: Sizes, block: int | None, tp: int = 0, moe_tp: int = 0, moe_ep: int = 0, batch: int = 0) -> tuple[Parallel, list[Problem]]:
    """Fill the degrees that the user left open, and check those that were given."""
    if not tp:
        good = tp_sizes(sizes, block)
        whole = [t for t in good if pairs(sizes, t, block)[0][0] == 1 and sizes["experts"] // pairs(sizes, t, block)[0][1] >= 2]
        tp = max(whole or good or [1])
    if not moe_tp and not moe_ep:
        moe_tp, moe_ep = (pairs(sizes, tp, block) or [(1, tp)])[0]
    elif not moe_tp:
        moe_tp = max(1, tp // moe_ep)
    elif not moe_ep:
        moe_ep = max(1, tp // moe_tp)
    least = -(-sizes["experts"] // sizes["top_k"]) if moe_ep > 1 else 1
    parallel = Parallel(tp, moe_tp, moe_ep, batch or least)
    return parallel, attention_problems(sizes, tp, block) + expert_problems(sizes, parallel, block)


def _problem(rule: str, message: str, key: str, hint: str) -> Problem:
    return Problem("parallel", f"{rule}: {message}", f"neuron_config: {key}", hint)


def _listed(sizes: Iterable[object]) -> str:
    return ", ".join(str(s) for s in sizes if s) or "none"


def notes(p: Parallel, sizes: Sizes, *, exact: bool) -> list[str]:
    """What a person must know before this output is loaded: which of the contrib port's patches it needs or forbids."""
    told = ["exact: block axes [-2, -1] need no patch of the contrib port, and its 2-D per-channel patch must not be applied (R23)" if exact
            else "block axes [1, 2] need the contrib port's 2-D per-channel patch for attention (R23)"]
    if p.moe_tp > 1:
        told.append(f"moe_tp {p.moe_tp}: right only without the contrib port's scale-stride patch, which would pair gate with up's scales in "
                    "silence (R39)")
    if p.moe_ep > 1 and p.moe_ep == sizes["experts"]:
        told.append("one expert on each rank: fails with the contrib port's expert-parallel patch (R37)")
    told.append("export " + " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items()) + ": the library sets neither")
    return told


def matches(entry: str, module: str) -> bool:
    """NxD quantization/quantize.py 122: the entry is the module or any substring of its dotted path."""
    return entry in module


def skip_list(candidates: dict[str, bool]) -> list[str]:
    """Shortest `modules_to_not_convert` for `candidates` (module path -> holds FP8), matched as NxD matches.

    Falls back to whole paths where no short word separates the modules.
    """
    unquantized = [m for m, fp8 in candidates.items() if not fp8]
    quantized = [m for m, fp8 in candidates.items() if fp8]
    chosen: list[str] = []
    for word in ("lm_head", "self_attn", "o_proj"):
        hit = [m for m in unquantized if matches(word, m) and not any(matches(c, m) for c in chosen)]
        if hit and not any(matches(word, m) for m in quantized):
            chosen.append(word)
    return chosen + [m for m in unquantized if not any(matches(c, m) for c in chosen)]


def configuration(p: Parallel, *, exact: bool, block: tuple[int, int], skip: list[str], context: int, shards: bool) -> dict[str, Any]:
    """`neuron_config.json`: settings of NxDI's MoENeuronConfig, spelled as it spells them, and `env`.

    `block` is in stored axes. Negative axes serve 2-D and 3-D weights alike (quantization_layers.py 274), so
    the exact form needs none of the contrib's patches; [1, 2] needs its 2-D patch for attention (R23).
    """
    return {
        "tp_degree": p.tp, "moe_tp_degree": p.moe_tp, "moe_ep_degree": p.moe_ep, "ep_degree": 1,
        "batch_size": p.batch, "ctx_batch_size": 1, "tkg_batch_size": p.batch, "is_continuous_batching": True,
        "seq_len": context, "max_context_length": context,
        "torch_dtype": "bfloat16", "glu_mlp": True, "fused_qkv": False, "logical_nc_config": 2,
        "quantized": True, "quantized_checkpoints_path": ".",
        "quantization_type": "blockwise_symmetric", "quantization_dtype": "f8e4m3",
        "quantization_block_axis": [-2, -1] if exact else [1, 2], "quantization_block_size": list(block),
        "quantized_mlp_kernel_enabled": False,
        "modules_to_not_convert": skip,
        "blockwise_matmul_config": {"use_shard_on_block_dynamic_while": True, "block_sharding_strategy": "PING_PONG"},
        "router_config": {"dtype": "float32", "act_fn": "sigmoid"},
        "save_sharded_checkpoint": True, "skip_sharding": shards,
        "env": dict(ENVIRONMENT),
    }


def name(path: str, fused_qkv: bool = False) -> str:
    """The path of a stored module in NxDI's module tree (NxDI modules/attention/gqa.py, NxD modules/moe): `layers.0.self_attn.qkv_proj.q_proj`.

    Experts of one layer are two modules, `….expert_mlps.mlp_op.gate_up_proj` and `….down_proj`. A path that has these names already stays.
    """
    path = path.removeprefix("model.")
    parent, _, leaf = path.rpartition(".")
    if parent.endswith(".self_attn"):
        if leaf in ("q_proj", "k_proj", "v_proj"):
            return f"{parent}.qkv_proj." + ("Wqkv" if fused_qkv else leaf)
        if leaf == "o_proj":
            return f"{path}.o_proj"
    block, found, inner = path.partition(".experts")
    if found and (not inner or inner.startswith(".")) and leaf in STACKED:
        return f"{block}.expert_mlps.mlp_op.{STACKED[leaf]}"
    return f"{block}.experts{inner}" if found else path
