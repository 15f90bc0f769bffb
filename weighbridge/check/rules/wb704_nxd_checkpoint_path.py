"""WB704 nxd-checkpoint-path: a quantized run without the path of its checkpoint.

## What it does
Looks for `quantized_checkpoints_path` beside `quantized: true`.

## Why it matters
The configuration is refused. The path replaces the model path: the weights are read from there alone.

## Example
`--quantized` without `--quantized-checkpoints-path`.

## How to mend
Give the folder that holds the converted checkpoint; `.` is the folder that neuron_config.json lies in.

## References
Rules R1 (NxDI models/config.py 218-221, 694) and R13 (application_base.py 636-642, "Quantized checkpoint file not found").
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.nxd_settings import READ_IN, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB704", "nxd-checkpoint-path", "error", ("neuron",), READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    if n.quantized and not n.text("quantized_checkpoints_path"):
        yield RULE.finding("quantized is true, and no checkpoint is named", n.where("quantized_checkpoints_path"),
                           evidence=f"quantized_checkpoints_path is {n.values.get('quantized_checkpoints_path')!r:.40}",
                           consequence="AssertionError: quantized_checkpoints_path is required",
                           fix=Fix("name the folder of the converted checkpoint", ".", (n.edit("quantized_checkpoints_path", "."),)),
                           runtime=target.runtime)
