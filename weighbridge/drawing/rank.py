"""What one rank holds of each node, by the arithmetic of `check.budget`: the shares of all nodes add up to `budget.of_rank`, to the byte.

A part's share is dealt out to the nodes that it consists of; each may differ from its exact fraction by less than one byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from weighbridge.check import budget, cuts
from weighbridge.check.case import Case
from weighbridge.check.nxd_settings import effective, nxd
from weighbridge.check.settings import Settings, Target
from weighbridge.drawing.collect import Leaf
from weighbridge.drawing.tree import Node, Tree
from weighbridge.errors import Usage
from weighbridge.runtimes import neuron as reader

GROUPS = ("attention", "mlp", "experts", "shared_experts")


def rank(case: Case, target: Target, tree: Tree, root: Node) -> dict[str, Any]:
    """Fill `rank` of every node below `root`, and give the degrees, the sums and what does not work, in words."""
    if case.checkpoint.ranks:
        raise Usage("these files are those of single ranks: each holds what its file has", "--runtime",
                    "draw the checkpoint that they were made from")
    settings = effective(case, target)
    d = budget.of_settings(settings, target)
    held = budget.of_rank(case, settings, target, d)
    _deal(case, settings, target, d, tree)
    _sum(root)
    token = budget.cache_bytes(case, replace(settings, context=1, batch=1), d)
    return {
        "runtime": target.runtime, "tp": d.tp, "moe_tp": d.moe_tp, "moe_ep": d.moe_ep, "ep": settings.ep,
        "weights": held.weights, "attention": held.attention, "experts": held.experts, "rest": held.rest, "cache_bytes_per_token": token,
        "faults": list(dict.fromkeys(_faults(case, settings, target, d))), "note": _note(case, target, d),
    }


def _deal(case: Case, settings: Settings, target: Target, d: cuts.Degrees, tree: Tree) -> None:
    share = {id(part): size for part, size in budget.shares(case, settings, target, d)}
    before: dict[int, int] = {}  # bytes of a part that earlier nodes hold
    for node, leaf, times, extra in tree.leaves:
        part = leaf.part
        if part is None:
            node["rank"] = {"shape": node["shape"], "bytes": node["bytes"], "how": "whole"}
            continue
        start = before.get(id(part), 0)
        end = before[id(part)] = start + leaf.bytes * times
        size = share[id(part)] * end // part.bytes - share[id(part)] * start // part.bytes
        shape, how = _held(case, target, d, leaf, part, node)
        node["rank"] = {"shape": shape, "bytes": size + extra, "how": how}


def _sum(node: Node) -> int:
    if node["children"]:
        size = sum(_sum(child) for child in node["children"])
        same = {child["rank"]["how"] for child in node["children"]}
        node["rank"] = {"shape": None, "bytes": size, "how": same.pop() if len(same) == 1 else None}
    return node["rank"]["bytes"]


def _held(case: Case, target: Target, d: cuts.Degrees, leaf: Leaf, part: cuts.CutPart, node: Node) -> tuple[list[int] | None, str]:
    """Shape of one weight on one rank, and how it comes about."""
    shape, role = list(node["shape"]), part.role.partition(".")[2]
    if part.group == "experts":
        return _of_experts(case, d, leaf, part, shape, node["axes"])
    if part.group in ("embedding", "lm_head"):
        along = 1 if part.group == "embedding" and target.runtime == "neuron" else 0  # NxD cuts the embedding's width
        return _cut(shape, along, d.tp), _ways(d.tp, "hidden" if along else "the vocabulary")
    ways = cuts.ways(part, case.sizes, d) if role in cuts.CUT_AXIS else d.attention if part.role == "attention.qkv" else 1
    if ways <= 1 and not (role in ("k", "v") and part.group == "attention" and d.attention > 1):
        return shape, "whole"
    out = role not in cuts.CUT_AXIS or cuts.CUT_AXIS[role][0] == 0
    along = _stored(leaf, out)
    how = _ways(ways, "out" if out else "in")
    if part.role in ("attention.q", "attention.o") and target.runtime == "neuron":
        padded, heads = reader.query_heads({"heads": case.sizes.heads or 1}, ways), case.sizes.heads or 1
        if padded != heads and shape[along] % heads == 0:
            shape[along] = shape[along] // heads * padded
            how = f"{heads} heads padded to {padded}, {how}"
    if part.group == "attention" and role in ("k", "v") and d.attention > ways:
        repeated = f"repeated {-(-d.attention // ways)} times"
        how = f"{how}, {repeated}" if ways > 1 else repeated
    return _cut(shape, along, ways), how


def _of_experts(case: Case, d: cuts.Degrees, leaf: Leaf, part: cuts.CutPart, shape: list[int], axes: list[str] | None) -> tuple[list[int] | None, str]:
    """A share of the experts, each whole or cut along its width. The shape is None where nothing tells which axis of a stack the width is."""
    experts = case.sizes.experts or 1
    dealt = -(-experts // d.moe_ep)
    how = [f"{dealt} of {experts} experts"] if d.moe_ep > 1 else []
    if part.stacked > 1 and d.moe_ep > 1:
        shape[0] = -(-shape[0] // d.moe_ep)
    if d.moe_tp > 1:
        role = part.role.partition(".")[2]
        out = cuts.CUT_AXIS.get(role, (0, 1))[0] == 0
        turned = part.stacked > 1 and axes is not None and axes[-2 if out else -1] == "hidden"
        how.append(f"width cut {d.moe_tp} ways")
        if part.stacked > 1 and axes is None:
            return None, ", ".join(how)
        shape = _cut(shape, _stored(leaf, out != turned), d.moe_tp)
    return shape, ", ".join(how) or "whole"


def _stored(leaf: Leaf, out: bool) -> int:
    """Which of the last two stored axes the outputs (or the inputs) lie along."""
    return -2 if out != (leaf.suffix == ".qweight") else -1


def _cut(shape: list[int], axis: int, ways: int) -> list[int]:
    if len(shape) < 2:
        return shape
    out = list(shape)
    out[axis] = -(-out[axis] // ways)
    return out


def _ways(ways: int, along: str) -> str:
    return f"cut {ways} ways along {along}" if ways > 1 else "whole"


def _note(case: Case, target: Target, d: cuts.Degrees) -> str:
    words = ["the fullest rank; activations, graphs and the runtime are not counted"]
    heads = case.sizes.heads
    if target.runtime == "neuron" and heads and heads % d.attention:
        words.append(f"zero heads that pad {heads} to {reader.query_heads({'heads': heads}, d.attention)} are counted")
    if target.runtime == "neuron" and nxd(case).flag("quantized") is False:
        words.append("FP8 is decoded to BF16 at load (quantized is false)")
    if target.runtime == "llama.cpp":
        words = ["llama.cpp converts and cuts nothing"]
    words.append("only sizes are looked at here: whether the files are read right says weighbridge check")
    return "; ".join(words)


def _faults(case: Case, settings: Settings, target: Target, d: cuts.Degrees) -> Iterator[str]:
    """Why these degrees do not run, in the reader's words or by the rules of docs/neuron.md."""
    if target.runtime == "neuron":
        yield from _nxd_faults(case, settings, d)
        return
    sizes = case.sizes
    if not cuts.heads_fit(sizes, d.attention):
        yield cuts.HEADS.format(heads=sizes.heads, tp=d.attention) if sizes.heads % d.attention else (
            f"{sizes.kv_heads} key/value heads cannot be dealt out to {d.attention} ranks")
    for packed in (False, True):
        for fault in cuts.faults(case, d, GROUPS, packed=packed):
            yield f"{fault.part.role} [{fault.part.rows}, {fault.part.cols}]: {fault.message}"
    if target.runtime not in ("sglang", "tensorrt-llm") or not sizes.experts:
        return
    if d.tp % d.moe_ep or (target.runtime == "tensorrt-llm" and d.moe_tp * d.moe_ep != d.tp):
        yield f"expert degrees {d.moe_tp} x {d.moe_ep} do not make TP {d.tp}"
    elif sizes.experts % d.moe_ep:
        yield f"{sizes.experts} experts are not divisible by EP {d.moe_ep}"


def _nxd_faults(case: Case, settings: Settings, d: cuts.Degrees) -> Iterator[str]:
    n = nxd(case)
    sizes = n.sizes_of_model
    if case.sizes.kv_lora or not all(sizes[key] for key in ("heads", "kv_heads", "hidden", "vocab")) or sizes["heads"] % sizes["kv_heads"]:
        return
    block = n.expert_block if n.blockwise else _expert_block(case)
    problems = reader.attention_problems(sizes, d.tp, block) if d.tp > 1 else []
    if sizes["experts"]:
        problems += reader.expert_problems(sizes, reader.Parallel(d.tp, d.moe_tp, d.moe_ep, settings.batch), block)
    for problem in problems:
        yield problem.message + (f"; {problem.hint}" if problem.hint else "")


def _expert_block(case: Case) -> int:
    """Rows of an expert's width that share a scale in the files."""
    return next((part.block[0] for part in cuts.parts(case) if part.role in ("experts.gate", "experts.gate_up") and part.quantized and part.block), 1)
