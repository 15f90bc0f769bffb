"""WB111 shape: a weight has another shape than the config asks for.

## What it does
Compares the shape in the header with the shape that follows from `config.json`, for families with an inventory. Packed codes are left out.

## Why it matters
The reader fails at the copy, after the files before it were loaded. Where it cuts or broadcasts, it does not fail at all.

## Example
`self_attn.k_proj.weight` is [1024, 3072], and the config gives 4 x 128 rows.

## How to mend
Take the config.json that belongs to the files.

## References
transformers: `size mismatch for …`; vLLM: `assert param.size() == loaded_weight.size()`.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.expected import expected
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule

RULE = Rule("WB111", "shape", "error")


def find(case: Case) -> Iterator[Finding]:
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[str]] = {}
    for module, have, want in expected(case).shapes:
        groups.setdefault((have, want), []).append(module.path)
    for (have, want), paths in groups.items():
        axis = next((i for i, (a, b) in enumerate(zip(have, want, strict=False)) if a != b), min(len(have), len(want)))
        yield RULE.finding("A weight has another shape than the config asks for", Where(module=folded(paths), count=len(paths)),
                           evidence=f"{list(have)} in the file, {list(want)} by the config (axis {axis})",
                           consequence="size mismatch, or a bare assertion, at the copy", fix="take the config.json that belongs to these files")
