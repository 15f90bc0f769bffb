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
from weighbridge.check.fold import alike
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

# What the safetensors library takes and Weighbridge does not read (docs/headers.md) -> what follows.
STRICTER = {
    "header-form": "the safetensors library takes it by chance; readers with a parser of their own fail",
    "name-length": "nothing is known of such a name in any reader", "axes": "numpy: maximum supported dimension for an ndarray is 64; torch fails, too",
}


def find(case: Case) -> Iterator[Finding]:
    for problem, count in alike(p for p in case.checkpoint.fatal if p.code in DAMAGE or p.code in STRICTER):
        file, _, tensor = problem.where.partition(": ")
        title = "A file is damaged" if problem.code in DAMAGE else "A header has a form that only some readers take"
        yield RULE.finding(title, Where(file=file, tensor=tensor, count=count), evidence=problem.message,
                           consequence=DAMAGE.get(problem.code) or STRICTER[problem.code], fix=problem.hint or "download the file again")
