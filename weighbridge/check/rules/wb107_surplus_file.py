"""WB107 surplus-file: a weight file lies beside the checkpoint, and the index does not name it.

## What it does
Lists `.safetensors` files that the index does not name.

## Why it matters
Some readers load every file of the folder: the stray one then overwrites weights, or its names are unknown. A single `model.safetensors`
beside an index is preferred by others. Which weights are loaded hangs on the reader.

## Example
`model.safetensors` of an earlier export lies beside five new shards and their index.

## How to mend
Move the file away.

## References
NxDI modules/checkpoint.py `load_state_dict` (prefers a single file); vLLM `filter_duplicate_safetensors_files`.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule

RULE = Rule("WB107", "surplus-file", "warning")


def find(case: Case) -> Iterator[Finding]:
    files = [p.where for p in case.checkpoint.problems if p.code == "surplus-file"]
    if files:
        more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
        yield RULE.finding("Weight files lie beside the checkpoint, and the index does not name them", Where(file=files[0] + more, count=len(files)),
                           evidence=f"{len(files):,} files beside the {len(case.checkpoint.headers):,} of the index",
                           consequence="it hangs on the reader which weights are loaded", fix="move them away")
