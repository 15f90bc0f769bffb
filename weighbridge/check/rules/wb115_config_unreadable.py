"""WB115 config-unreadable: `config.json` or the index cannot be read, or does not describe a model.

## What it does
Reads the JSON files with bounds (size, depth, types) and makes the inventory of the family from the config.

## Why it matters
Without sizes nothing else can be said, and a reader ends in its own constructor.

## Example
`num_attention_heads` is missing; `num_key_value_heads` does not divide the heads.

## How to mend
Take config.json from the publisher again.

## References
NxDI models/config.py 905-910, AssertionError "Config must define [...]"; transformers `PretrainedConfig`.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import alike
from weighbridge.check.rule import Rule

RULE = Rule("WB115", "config-unreadable", "error")


def find(case: Case) -> Iterator[Finding]:
    for problem, count in alike(p for p in case.checkpoint.fatal if p.code in ("not-json", "json-too-large", "index", "index-path", "no-weights")):
        yield RULE.finding("A file of the configuration cannot be read" if problem.code != "no-weights" else "There are no weights here",
                           Where(file=problem.where, count=count), evidence=problem.message, consequence="no reader loads this", fix=problem.hint)
    if "config.json" not in case.checkpoint.files:
        yield RULE.finding("There is no config.json", Where(file="config.json"), evidence=f"{len(case.checkpoint.files):,} files, none is config.json",
                           consequence="OSError: … does not appear to have a file named config.json", fix="take it from the publisher")
    error = case.inventory_problem
    if error is not None and error.first.code != "unknown-family":
        for problem in error.problems:
            yield RULE.finding("The config does not describe a model of its family", Where(file="config.json", key=problem.where), evidence=problem.message,
                               consequence="the reader fails in its constructor", fix=problem.hint)
