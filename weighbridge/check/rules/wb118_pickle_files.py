"""WB118 pickle-files: pickled weights lie beside the safetensors files.

## What it does
Lists `.bin`, `.pt`, `.pth` and `.ckpt` files. They are never opened.

## Why it matters
Opening a pickle runs the code in it. Readers that fall back to them, or are told to, load other weights than the ones checked here.

## Example
`pytorch_model.bin` lies beside `model.safetensors`.

## How to mend
Move them away.

## References
Python documentation, `pickle`, warning; transformers `use_safetensors`.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule

RULE = Rule("WB118", "pickle-files", "note")


def find(case: Case) -> Iterator[Finding]:
    files = [f for f in case.checkpoint.files if f.endswith((".bin", ".pt", ".pth", ".ckpt")) and not f.startswith("training_args")]
    if files:
        yield RULE.finding("Pickled weights lie beside the safetensors files", Where(file=files[0], count=len(files)),
                           evidence=f"{len(files):,} files that are never opened here", consequence="none, unless a reader is told to load them",
                           fix="move them away")
