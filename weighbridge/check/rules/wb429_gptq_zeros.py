"""WB429 gptq-zeros: the stored zero points belong to the other version of the GPTQ format.

## What it does
Reads a sample of `qzeros`. For symmetric 4-bit weights version 1 stores 7 (readers add 1), version 2 stores 8; 15 is a zero point of 0 from which
1 was taken.

## Why it matters
With the wrong version every weight is one step off: the model answers `!!!!`. A stored 15 becomes 16 and overflows: NaN.

## Example
qzeros 0x88888888 with `checkpoint_format: gptq`.

## How to mend
Name the version that the files have: `gptq_v2` for 8, `gptq` for 7.

## References
vllm-project/vllm#38966, #26092; ModelCloud/GPTQModel#2350.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix
from weighbridge.check.modules import Module
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, form

RULE = Rule("WB429", "gptq-zeros", "error")
SAMPLE, BYTES = 16, 4096


def find(case: Case) -> Iterator[Finding]:
    claim = form(case)
    bits = case.claims.bits or 4
    if claim.family != "gptq" or bits not in (2, 4, 8) or case.scale_bytes == "none":
        return
    every = [m for m in case.modules.all if m.suffix == ".qweight" and m.path + ".qzeros" in case.checkpoint.tensors]
    sample = every[:: max(1, len(every) // SAMPLE)][:SAMPLE]
    middle, top = 1 << (bits - 1), (1 << bits) - 1
    version = claim.raw.get("checkpoint_format", "gptq")
    found: dict[int, list[Module]] = {}
    for module in sample:
        value = _only(case.read(case.checkpoint.tensors[module.path + ".qzeros"], 0, BYTES), bits)
        if value is not None:
            found.setdefault(value, []).append(module)
    seen = f"{len(sample):,} of {len(every):,} qzeros read"
    if top in found and top != middle:
        yield _finding(found[top], "Zero points of 0 were stored less 1", f"{seen}: all {top}", "NaN logits: 15 becomes 16 and overflows",
                       Fix("pack the zero points again", None))
    if claim.raw.get("sym") is False:
        return
    if middle in found and version == "gptq":
        yield _finding(found[middle], "The zero points are those of GPTQ version 2, and the claim says version 1", f"{seen}: all {middle}; checkpoint_format {version}",
                       "no error: every weight is one step off, all tokens are `!!!`", _fix(case, "gptq_v2"))
    if middle - 1 in found and version == "gptq_v2":
        yield _finding(found[middle - 1], "The zero points are those of GPTQ version 1, and the claim says version 2", f"{seen}: all {middle - 1}; checkpoint_format {version}",
                       "no error: every weight is one step off, all tokens are `!!!`", _fix(case, "gptq"))


def _only(raw: bytes, bits: int) -> int | None:
    """The one value of all packed zero points, or None."""
    if not raw or raw.count(raw[:1]) != len(raw):
        return None
    values = {raw[0] >> shift & ((1 << bits) - 1) for shift in range(0, 8, bits)}
    return values.pop() if len(values) == 1 else None


def _finding(modules: list[Module], title: str, evidence: str, consequence: str, fix: Fix) -> Finding:
    return RULE.finding(title, at(m.path + ".qzeros" for m in modules), evidence=evidence, consequence=consequence, fix=fix)


def _fix(case: Case, version: str) -> Fix:
    edits = (Edit("config.json", ("quantization_config", "checkpoint_format"), version),) if case.claims.source == "config.json: quantization_config" else ()
    return Fix(f"say checkpoint_format {version}", version, edits)
