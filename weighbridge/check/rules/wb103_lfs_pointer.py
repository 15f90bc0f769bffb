"""WB103 lfs-pointer: a file is the pointer of Git LFS, not the weights.

## What it does
Looks whether a `.safetensors` file begins with the text of a Git LFS pointer.

## Why it matters
A clone without LFS gives files of some 130 bytes with the right names. Readers take the text for a header and say `HeaderTooLarge`.

## Example
`model-00001-of-00002.safetensors` has 134 bytes, and they begin with `version https://git-lfs`.

## How to mend
`git lfs pull` in that folder, or download the files from the hub.

## References
lyogavin/airllm#137; Git LFS specification, "The Pointer".
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule

RULE = Rule("WB103", "lfs-pointer", "error")


def find(case: Case) -> Iterator[Finding]:
    files = [problem.where for problem in case.checkpoint.fatal if problem.code == "lfs-pointer"]
    if files:
        more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
        yield RULE.finding("Files are pointers of Git LFS, not the weights", Where(file=files[0] + more, count=len(files)),
                           evidence=f"{case.checkpoint.files.get(files[0], 0):,} bytes that begin with the text of a pointer",
                           consequence="SafetensorError: HeaderTooLarge", fix="run git lfs pull, or download the files from the hub")
