"""WB308 list-other-prefix: entries are spelled with names that this reader changes while it loads, so they match nothing.

## What it does
Takes the entries that match nothing, exchanges the prefixes that readers rename (`model.language_model.`, `language_model.model.`, `visual.`,
`.block_sparse_moe.`, `.conv.`), and looks whether the entry then names plain modules that no other entry names.

## Why it matters
The modules are built quantized although the publisher listed them. Towers and BF16 layers are cast to FP8 without a scale, mostly in silence.

## Example
The list of a multimodal checkpoint says `model.language_model.layers.0.…`; loaded as a text model the module is `model.layers.0.…`.
`re:model\\.visual\\..*` is not rewritten by vLLM's map of prefixes, since it begins with `re:`.

## How to mend
Write the list that the finding prints, in the names of this reader.

## References
huggingface/transformers#48349; vllm-project/vllm#30164, #28072, #27834; vllm-project/vllm-ascend#4313; vllm-project/vllm#51495.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import skip_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.skip_prefix import other_prefix
from weighbridge.check.views import view_of

RULE = Rule("WB308", "list-other-prefix", "error", skip_find.READERS, skip_find.READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    view = view_of(case, target)
    renamed = other_prefix(view, case.patience) if view.reader else {}
    paths = {path for hit in renamed.values() for path in hit}
    found = [b for b in view.built if b.path in paths]
    if found:
        sure = any(b.candidate for b in found)
        yield RULE.finding(f"{len(renamed):,} entries are spelled with names that {target.runtime} does not use", skip_find.place(view, found),
                           evidence=f"{folded(renamed)} matches nothing; the modules are {folded(b.path for b in found)}",
                           consequence=skip_find.plain_but_built(case, view,
                                                                 found) if sure else "built quantized where this class quantizes its towers",
                           fix=skip_find.right_list(case, view), severity="error" if sure else "warning", runtime=target.runtime)
