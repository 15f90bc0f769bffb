"""WB310 draft-layers: draft (MTP) layers are not quantized as the reader builds them.

## What it does
Takes the modules of draft layers, by their words or by a layer number beyond the model's. Names those with plain values that no entry of the
list skips, and those with codes that the reader builds plain (`eh_proj`, `shared_head.head`). For a table of layers (`quantized_layers`) it
names quantized draft modules that the table leaves out.

## Why it matters
Without speculative decoding these layers are not loaded and nothing happens. With it the load fails, or the draft accepts nothing.

## Example
GLM-4.5-FP8: `model.layers.92.shared_head.head` has a scale, and the class builds the head plain. MiMo: o_proj of the draft layers is BF16, and the
list names those of the model only.

## How to mend
Leave speculative decoding off, or write the list that the finding prints; a head with codes must be decoded.

## References
vllm-project/vllm#31757, #32101, #49552, #48506, #39475, #47828; ROCm/ATOM#755.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import skip_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.skip_build import Built
from weighbridge.check.views import View, view_of

RULE = Rule("WB310", "draft-layers", "warning", ("vllm", "sglang"), skip_find.READ_IN)
ONLY = "only with speculative decoding: "


def find(case: Case, target: Target) -> Iterator[Finding]:
    view = view_of(case, target)
    drafts = [b for b in view.built if b.draft]
    table = _outside_table(view, drafts)
    if table:
        yield RULE.finding(f"The table of quantized layers leaves out {len(table):,} quantized draft modules", skip_find.place(view, table),
                           evidence=f"{table[0].units[0].first.weight.dtype} in the files, no entry in quantized_layers",
                           consequence=ONLY + "no error: the draft is built unquantized and takes codes for values",
                           fix="add these modules to quantized_layers", runtime=target.runtime)
    if not view.reader or not any(b.coded for b in view.built):
        return
    plain = [b for b in drafts if b.candidate and not b.coded and not b.skipped]
    if plain:
        fix = skip_find.right_list(case, view) if view.claim and view.key != "dynamic" else "name them in `dynamic`, each as \"-:regex\": {}"
        yield RULE.finding(f"{len(plain):,} modules of draft layers hold plain values and no entry names them", skip_find.place(view, plain),
                           evidence=f"{plain[0].units[0].first.weight.dtype} in the files; {len(view.entries):,} entries in {view.where or 'the config'}",
                           consequence=ONLY + skip_find.plain_but_built(case, view, plain), fix=fix, runtime=target.runtime)
    coded = [b for b in drafts if b.candidate is False and b.coded]
    if coded:
        name = coded[0].path + (next((u.first_coded.scale_suffix for u in coded[0].units if u.first_coded), "") or ".weight_scale")
        silent = all(b.path.endswith("eh_proj") for b in coded)
        yield RULE.finding(f"{len(coded):,} modules of draft layers hold codes, and {target.runtime} builds them plain", skip_find.place(view, coded),
                           evidence=f"{coded[0].units[0].first.weight.dtype} in the files",
                           consequence=ONLY + ("no error: raw codes are taken for values, and the next norm hides it" if silent
                                               else f"KeyError: '{name}'"),
                           fix="leave speculative decoding off, or decode these modules in the files", runtime=target.runtime)


def _outside_table(view: View, drafts: list[Built]) -> list[Built]:
    table = view.claim.raw.get("quantized_layers") if view.claim else None
    if not isinstance(table, dict) or not table:
        return []
    names = tuple(name for name in table if isinstance(name, str))
    return [b for b in drafts if b.coded and not any(b.path == n or b.path.startswith(n + ".") for n in names)]
