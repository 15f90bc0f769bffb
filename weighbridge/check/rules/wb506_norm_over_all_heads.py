"""WB506 norm-over-all-heads: q/k norms run over all heads at once, and tensor parallelism deals the heads out.

## What it does
Finds `q_norm` and `k_norm` weights as long as all heads together (MiniMax-M2, OLMo-2: 6144 values, not 128), and TP above 1.

## Why it matters
The mean square runs over all heads, so ranks must add theirs up. A reader that norms what its rank holds computes another model: the text is
garbled or a little worse, and nothing says so. The contrib port for Neuron does that.

## Example
MiniMax-M2 at TP 64 on Neuron: each rank norms 128 values of 6144.

## How to mend
On Neuron no file can mend it: compare the answers with a reference. vLLM and SGLang add up in their classes for MiniMax-M2; in other readers
and for other families look for a reduction in the norm, or use TP 1 with pipeline parallelism.

## References
turboderp-org/exllamav3#141, vllm-project/vllm#35932; transformers 5.23 models/minimax_m2 (norm before the split into heads);
contrib port modeling_minimax_m2.py 185-187, 889-925 (norm for each rank).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case, per_case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.nxd_settings import effective, shown
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB506", "norm-over-all-heads", "warning", ("vllm", "sglang", "neuron"),
            {"neuron": "NxDI contrib/MiniMax-M2", "vllm": "vLLM main", "sglang": "SGLang main"})


def find(case: Case, target: Target) -> Iterator[Finding]:
    sizes, tp = case.sizes, effective(case, target).tp
    if tp <= 1 or sizes.heads <= 1 or sizes.head_dim * sizes.heads <= 0:
        return
    whole, found = _widths(case), _norms(case)
    if not found:
        return
    neuron = target.runtime == "neuron"
    consequence = ("no error: every rank norms its own heads, so the answers differ from the model's" if neuron
                   else "right where the reader adds the squares up over the ranks (its class for MiniMax-M2 does); else no error, and garbled text")
    yield RULE.finding(f"q/k norms run over all heads, and {tp} ranks hold {max(1, sizes.heads // tp)} of {sizes.heads} each",
                       Where(tensor=shown(list(found)), count=sum(found.values())),
                       evidence=f"{whole['q_norm']} and {whole['k_norm']} values, a head has {sizes.head_dim}",
                       consequence=consequence, severity="warning" if neuron else "note", runtime=target.runtime,
                       fix="no file can mend it: compare with TP 1 or with a reference before you trust the answers")


def _widths(case: Case) -> dict[str, int]:
    sizes = case.sizes
    return {"q_norm": sizes.heads * sizes.head_dim, "k_norm": sizes.kv_heads * sizes.head_dim}


@per_case
def _norms(case: Case) -> dict[str, int]:
    """How many norms are as long as all heads together, by key."""
    whole = _widths(case)
    return {name: pair.count for name, key in case.survey.keys.items() if name.endswith(("q_norm.weight", "k_norm.weight")) and key.what == "weight"
            for pair in key.pairs.values() if pair.shape == (whole[name[-13:-7]],)
            and whole[name[-13:-7]] > case.sizes.head_dim}
