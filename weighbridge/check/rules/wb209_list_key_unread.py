"""WB209 list-key-unread: the skip list stands under a key that this reader does not read for this method.

## What it does
Each method of each reader has its own key: `modules_to_not_convert`, `ignored_layers`, `ignore`, `exclude_modules`, `exclude`,
`llm_int8_skip_modules`. The rule names lists under other keys, where plain modules need them.

## Why it matters
The reader has no list, and builds all modules quantized, the plain ones too.

## Example
`ignored_layers` in a block-FP8 config, for TensorRT-LLM, which reads `modules_to_not_convert` there.

## How to mend
Write the list under the key that the finding names; other readers may need the old one beside it.

## References
transformers 5.23.0 utils/quantization_config.py `FineGrainedFP8Config`; vLLM main fp8.py, modelopt.py; SGLang main fp8.py `from_config`;
TensorRT-LLM main `load_hf_quant_config`, NVIDIA/TensorRT-LLM#17551.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import skip_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.views import view_of

RULE = Rule("WB209", "list-key-unread", "error", ("transformers", "vllm", "sglang", "tensorrt-llm"), skip_find.READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    view = view_of(case, target)
    if not view.reader or not view.unread or view.claim is None:
        return
    open_ = [b for b in view.candidates if not b.coded and not b.skipped]
    if not open_ or not any(b.coded for b in view.built):
        return
    key, entries = next(iter(view.unread.items()))
    fix = skip_find.right_list(case, view)
    yield RULE.finding(f"{target.runtime} does not read {key} for {view.claim.method}",
                       Where(view.file, module=folded(b.path for b in open_), key=view.claim.key(key), count=len(open_)),
                       evidence=f"{len(entries):,} entries in {key}, it reads {view.key}; {len(open_):,} plain modules are not listed there",
                       consequence=skip_find.plain_but_built(case, view, open_), fix=Fix(f"write the list as {view.key} too", fix.value, fix.edits),
                       runtime=target.runtime)
