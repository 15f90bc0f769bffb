"""WB311 list-malformed: a skip list is no list of texts.

## What it does
Looks at the type of every key that may hold a skip list, and of its entries.

## Why it matters
A text where a list belongs is read letter by letter: every module that has an `e` is skipped. A number ends in a TypeError.

## Example
`"modules_to_not_convert": "lm_head"`.

## How to mend
Write a list of texts.

## References
transformers 5.23.0 quantizers/base.py `get_modules_to_not_convert` (`list.extend`); vLLM modelopt.py (`exclude_modules must be a list`).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Where
from weighbridge.check.rule import Rule
from weighbridge.runtimes import LONGEST_ENTRY

RULE = Rule("WB311", "list-malformed", "error")


def find(case: Case) -> Iterator[Finding]:
    for claim in case.stated:
        for key, what in claim.bad_lists.items():
            raw = claim.raw.get(key)
            good = [raw] if isinstance(raw, str) and len(raw) <= LONGEST_ENTRY else list(claim.lists.get(key, ()))
            edits = (Edit(claim.file, (*claim.path, key), good),) if claim.file.endswith(".json") and claim.place != "quantize" else ()
            yield RULE.finding(f"{key} is no list of texts", Where(claim.file, key=claim.key(key)), evidence=what,
                               consequence="TypeError, or a text is read letter by letter: nearly everything is skipped",
                               fix=Fix("write a list of texts", good, edits))
