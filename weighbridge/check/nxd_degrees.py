"""Degrees of the experts that NxD Inference can run, for the fixes of several rules."""

from __future__ import annotations

from weighbridge.check.finding import Fix
from weighbridge.check.nxd_settings import Nxd
from weighbridge.runtimes import neuron as reader


def pairs(n: Nxd) -> list[tuple[int, int]]:
    """All (moe_tp, moe_ep) at this TP that keep whole experts and whole blocks, best first. A cut needs EP above 1, or is TP itself."""
    sizes = n.sizes_of_model
    if not sizes["experts"] or not n.tp:
        return []
    block = n.expert_block if n.blockwise else 1
    return [(mt, me) for mt, me in reader.pairs(sizes, n.tp, block)]


def pair_fix(n: Nxd) -> Fix:
    """All pairs that work, and the best one as the change."""
    found = pairs(n)
    if not found:
        tps = reader.tp_sizes(n.sizes_of_model, n.expert_block if n.blockwise else 1)
        return Fix(f"no pair works at TP {n.tp}; TP that works: {', '.join(map(str, tps)) or 'none'}", tps)
    mt, me = found[0]
    text = f"moe_tp x moe_ep that works at TP {n.tp}: " + ", ".join(f"{a} x {b}" for a, b in found)
    return Fix(text, [list(pair) for pair in found], (n.edit("moe_tp_degree", mt), n.edit("moe_ep_degree", me)))


def cut(n: Nxd) -> int:
    """Into how many pieces an expert's width is cut: with EP 1 it is TP, whatever moe_tp_degree says (R33)."""
    return n.tp if n.moe_ep == 1 else n.moe_tp
