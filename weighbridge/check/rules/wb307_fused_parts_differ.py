"""WB307 fused-parts-differ: the parts of a layer that the reader fuses are not all quantized, or not all listed.

## What it does
Puts q/k/v, gate/up, MLA's first projections and the experts of a layer together as the reader does, and compares the parts: those that the list
names with the others, and those that hold codes with the others.

## Why it matters
A fused layer has one weight, so its parts have one precision.

## Example
A list with `model.layers.0.self_attn.q_proj` and without k_proj and v_proj: vLLM and SGLang raise.

## How to mend
If the files agree, write the list that the finding prints. If they do not, decode or quantize the parts that differ.

## References
vLLM quantization/utils/quant_utils.py `is_layer_skipped` (the text), compressed_tensors/utils.py; TensorRT-LLM models/modeling_utils.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import skip_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.views import View, view_of
from weighbridge.runtimes.skip import RULES

RULE = Rule("WB307", "fused-parts-differ", "error", skip_find.READERS, skip_find.READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    view = view_of(case, target)
    if not view.reader:
        return
    groups = {name: parts for name, parts in skip_find.fused_groups(view).items() if skip_find.disagree(parts)}
    listed = {n: p for n, p in groups.items() if not (any(b.coded for b in p) and any(b.plain for b in p))}
    stored = {n: p for n, p in groups.items() if n not in listed}
    for kind, found in (("listed", listed), ("stored", stored)):
        if found:
            name, parts = next(iter(found.items()))
            yes = [b.path.rpartition(".")[2] for b in parts if (b.skipped if kind == "listed" else b.coded)]
            no = [b.path.rpartition(".")[2] for b in parts if b.path.rpartition(".")[2] not in yes]
            text = f"{', '.join(yes)} {'listed' if kind == 'listed' else 'quantized'}, {', '.join(no)} not"
            yield RULE.finding(f"Parts of {len(found):,} fused layers differ: {text}",
                               Where(view.file, module=folded(found), key=view.where, count=len(found)),
                               evidence=f"{name}: {text}", consequence=_consequence(view, name),
                               fix=skip_find.right_list(case, view) if kind == "listed"
                               else "decode the quantized parts, or quantize the others: one layer, one precision",
                               runtime=target.runtime)
    mixed = [b for b in view.candidates if b.experts and b.coded and b.plain]
    if mixed:
        module = next(u.first_plain for b in mixed for u in b.units if u.first_plain is not None)
        yield RULE.finding(f"Experts of {len(mixed):,} layers differ: {mixed[0].coded:,} matrices are quantized, {mixed[0].plain:,} are not",
                           skip_find.place(view, mixed), evidence=f"{module.path} is {module.weight.dtype}, others of its layer hold codes",
                           consequence="the experts of a layer are one module: it is built quantized or plain as a whole",
                           fix="decode the quantized experts of that layer, or quantize the others", runtime=target.runtime)


def _consequence(view: View, name: str) -> str:
    text = RULES[view.reader].split.format(prefix=name)
    return text if text.startswith("no error") or not text else f"ValueError: {text}"
