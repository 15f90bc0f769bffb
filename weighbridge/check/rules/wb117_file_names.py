"""WB117 file-names: the names of the files count otherwise than the files.

## What it does
Compares `-of-NNNNN` in the names with the number of files, and `metadata.total_size` of the index with the bytes of all tensors.

## Why it matters
A check of completeness that goes by the names calls a whole download broken. MiniMax-M2 itself is 125 files `-of-00130`, counted from 0.

## Example
Names end in `-of-00130`, there are 125 files, and the index asks for no other.

## How to mend
Nothing: the index and the headers count. Without an index, compare with the publisher's list.

## References
huggingface MiniMaxAI/MiniMax-M2, the list of its files.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule
from weighbridge.inspection.disagreements import file_counts

RULE = Rule("WB117", "file-names", "note")


def find(case: Case) -> Iterator[Finding]:
    for entry in file_counts(case.checkpoint, case.survey):
        unsure = entry["code"] == "file-count" and entry["level"] == "differs"
        yield RULE.finding("The names of the files count otherwise than the files" if entry["code"] == "file-count" else
                           "The index states another size than the tensors have", Where(file=entry["where"]), evidence=entry["message"],
                           consequence="files may be missing: nothing here tells which are due" if unsure else "none: readers use neither",
                           fix=entry["hint"] or "nothing to do", severity="warning" if unsure else "note")
