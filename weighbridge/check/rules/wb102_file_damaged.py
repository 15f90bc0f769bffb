"""WB102 file-damaged: a file is cut off, too long, or its header does not describe it.

## What it does
Reads the header of every file and compares it with the length of the file: every tensor has the bytes that its dtype and shape need, the
tensors cover the data once and without holes, and the data end where the file ends.

## Why it matters
A partial download fails with `MetadataIncompleteBuffer` or `HeaderTooLarge`, which name neither file nor cause. A file that was
zero-filled to its length loads, and the zeros are computed with.

## Example
The header of `model-00003-of-00005.safetensors` describes 4,996,670,464 bytes of data, and the file has 4,194,304,000.

## How to mend
Download the named file again.

## References
safetensors README, "Format"; lyogavin/airllm#137; huggingface/safetensors `SafeTensorError`.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule

RULE = Rule("WB102", "file-damaged", "error")

# Code of the problem that reading gave -> what readers of the safetensors library say.
DAMAGE = {
    "header-truncated": "SafetensorError: HeaderTooSmall", "header-too-long": "SafetensorError: HeaderTooLarge",
    "header-longer-than-file": "SafetensorError: InvalidHeaderLength", "header-not-json": "SafetensorError: InvalidHeaderDeserialization",
    "header-entry": "SafetensorError: InvalidHeaderDeserialization", "unknown-dtype": "SafetensorError: InvalidHeaderDeserialization",
    "offsets": "SafetensorError: InvalidOffset", "size": "SafetensorError: TensorInvalidInfo", "shard-truncated": "SafetensorError: MetadataIncompleteBuffer",
    "shard-too-long": "SafetensorError: MetadataIncompleteBuffer",
}


def find(case: Case) -> Iterator[Finding]:
    for problem in case.checkpoint.fatal:
        if problem.code in DAMAGE:
            file, _, tensor = problem.where.partition(": ")
            yield RULE.finding("A file is damaged", Where(file=file, tensor=tensor), evidence=problem.message,
                               consequence=DAMAGE[problem.code], fix=problem.hint or "download the file again")
