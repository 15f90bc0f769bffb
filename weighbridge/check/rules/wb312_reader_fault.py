"""WB312 reader-fault: this version of the reader makes a mistake with skip lists that this checkpoint meets.

## What it does
Holds the known faults of readers that a right list cannot prevent: the version that mended each, and the condition in the files. Without a version
(`--runtime vllm@0.10`) they are notes.

## Why it matters
List and files agree, and the load fails all the same.

## Example
A compressed-tensors model some layers of which have their experts in BF16: vLLM before 0.11.1 did not look at `ignore` for experts.

## How to mend
Use the version that the finding names, or quantize those modules too.

## References
vllm-project/vllm#28878 (experts), #11795 (Qwen2), #51495 (`.conv.`), #48068 (EAGLE3); the issues name the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from weighbridge.check import skip_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.skip_build import Built
from weighbridge.check.views import View, view_of

RULE = Rule("WB312", "reader-fault", "error", ("vllm",), {"vllm": "vLLM main, issues"})


class ReaderFault(NamedTuple):
    """`mended` is the first version without it, empty where none is known; then it is a warning for every version."""

    mended: str
    title: str
    said: str
    met: Callable[[Case, View], list[Built]]


def _plain_experts(case: Case, view: View) -> list[Built]:
    if view.claim is None or view.claim.family != "compressed-tensors" or not any(b.experts and b.coded for b in view.candidates):
        return []
    return [b for b in view.candidates if b.experts and not b.coded and b.skipped]


def _qwen2_parts(case: Case, view: View) -> list[Built]:
    if case.checkpoint.model_type != "qwen2":
        return []
    return [b for b in view.candidates if not b.coded and b.skipped and ".layers." in b.path]


def _short_conv(case: Case, view: View) -> list[Built]:
    return [b for b in view.built if ".conv." in b.path and not b.coded and b.skipped and case.checkpoint.model_type.startswith("lfm2")]


def _eagle3(case: Case, view: View) -> list[Built]:
    architectures = case.config.get("architectures")
    if not isinstance(architectures, list) or not any(isinstance(a, str) and "Eagle3" in a for a in architectures):
        return []
    return [b for b in view.candidates if b.role.startswith("attention.") and not b.coded and b.skipped]


FAULTS = (
    ReaderFault("0.11.1", "the ignore list is not read for experts", "a load error at the first weight of the plain experts", _plain_experts),
    ReaderFault("0.6.6", "Qwen2 doubles the prefix of its layers (layers.N.layers.), so the list matches nothing",
          "KeyError: 'layers.0.self_attn.qkv_proj.weight'", _qwen2_parts),
    ReaderFault("", "`.conv.` becomes `.short_conv.` in the list and not in the layer",
          "AttributeError: 'MergedColumnParallelLinear' object … weight_loader", _short_conv),
    ReaderFault("", "the prefix of EAGLE3's attention lacks `.self_attn`, so the list does not match it", "AssertionError (shape) in load_qkv_weight",
          _eagle3),
)


def find(case: Case, target: Target) -> Iterator[Finding]:
    view = view_of(case, target)
    if not view.reader or not any(b.coded for b in view.built):
        return
    for fault in FAULTS:
        found = fault.met(case, view) if not target.version or not fault.mended or target.before(fault.mended) else []
        if found:
            severity = "warning" if not fault.mended else "error" if target.version else "note"
            yield RULE.finding(f"vLLM {'before ' + fault.mended if fault.mended else '(some versions)'}: {fault.title}", skip_find.place(view, found),
                               evidence=f"{len(found):,} plain modules that the list names rightly", consequence=fault.said, severity=severity,
                               fix=f"use vLLM {fault.mended} or newer" if fault.mended
                               else "use a version in which the issue is closed, or quantize these modules too",
                               runtime=target.runtime)
