"""WB116 header-length: a header has a length that some range readers cut off.

## What it does
Looks for headers of 99,994 to 100,000 bytes.

## Why it matters
huggingface_hub's `parse_safetensors_file_metadata` reads the first 100,000 bytes, of which 8 are the length: it takes such a header for whole
and cuts its last bytes off. The file is good.

## Example
A header of 99,996 bytes gives `header is not json-encoded string`.

## How to mend
Read the whole file, or write it again with a header that is padded beyond 100,000 bytes.

## References
huggingface/huggingface_hub#4602.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule

RULE = Rule("WB116", "header-length", "warning")


def find(case: Case) -> Iterator[Finding]:
    for file, header in case.checkpoint.headers.items():
        length = min((t.start for t in header.tensors.values()), default=0) - 8
        if 99_994 <= length <= 100_000:
            yield RULE.finding("A header has a length that some range readers cut off", Where(file=file), evidence=f"{length:,} bytes; the reader has "
                               "100,000 less the 8 of the length", consequence="header is not json-encoded string",
                               fix="read the file from disk, or write it again with a longer header")
