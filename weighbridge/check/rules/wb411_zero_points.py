"""WB411 zero-points: zero points in the files and the claim do not agree.

## What it does
Compares the zero points of packed integer weights (`weight_zero_point`, `qzeros`) with what the claim says of symmetry.

## Why it matters
A symmetric loader has no parameter for a zero point and ends with a KeyError; an asymmetric one without zero points shifts every weight.

## Example
An asymmetric AWQ export whose `config_groups` say `symmetric: true`.

## How to mend
Say in the claim what the files hold. If the zero points are all the middle of the range, they may be removed instead.

## References
vllm-project/llm-compressor#2255 (the text), #2628 (experts, vLLM 0.19.0).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix
from weighbridge.check.modules import Module
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, form

RULE = Rule("WB411", "zero-points", "error")


def find(case: Case) -> Iterator[Finding]:
    packed = [m for m in case.modules.all if m.suffix == ".weight_packed" and m.weight.dtype == "I32"]
    if packed and form(case).family == "ct":
        yield from _compressed(case, packed)
    family = form(case).family
    plain = [m for m in case.modules.all if m.suffix == ".qweight"]
    bare = [m for m in plain if m.path + ".qzeros" not in case.checkpoint.tensors]
    if bare and (family == "gptq" or (family == "awq" and form(case).raw.get("zero_point") is not False)):
        yield RULE.finding("Packed weights have no zero points", at(m.path + ".qzeros" for m in bare),
                           evidence=f"{len(bare):,} of {len(plain):,} weights have no qzeros, which {family} stores for all",
                           consequence="no error: the parameter stays as it was allocated, and every weight is shifted",
                           fix="take qzeros from the published checkpoint")


def _compressed(case: Case, packed: list[Module]) -> Iterator[Finding]:
    tensors = case.checkpoint.tensors
    with_points = [m for m in packed if m.path + ".weight_zero_point" in tensors]
    symmetric = form(case).weights.get("symmetric") is not False
    names = [m.path + ".weight_zero_point" for m in with_points]
    if with_points and symmetric:
        yield RULE.finding("Zero points are in the files, and the claim says symmetric", at(names),
                           evidence=f"symmetric: {form(case).weights.get('symmetric')!r}, {len(names):,} weight_zero_point tensors",
                           consequence=f"KeyError: '{names[0].removeprefix('model.')}' in vLLM", fix=Fix("say symmetric: false in the claim", False, _edits(case)))
    elif not symmetric and len(with_points) < len(packed):
        bare = [m.path + ".weight_zero_point" for m in packed if m.path + ".weight_zero_point" not in tensors]
        yield RULE.finding("The claim says asymmetric, and zero points are missing", at(bare),
                           evidence=f"symmetric: false, {len(bare):,} of {len(packed):,} packed weights have no weight_zero_point",
                           consequence="no error: the zero point stays as it was allocated, and every weight is shifted",
                           fix="take the zero points from the published checkpoint; if the weights are symmetric, say symmetric: true")


def _edits(case: Case) -> tuple[Edit, ...]:
    place = {"config.json: quantization_config": ("quantization_config",),
             "config.json: text_config.quantization_config": ("text_config", "quantization_config")}.get(case.claims.source)
    groups = form(case).raw.get("config_groups")
    if place is None or not isinstance(groups, dict):
        return ()
    return tuple(Edit("config.json", (*place, "config_groups", str(name), "weights", "symmetric"), False)
                 for name, group in groups.items() if isinstance(group, dict) and isinstance(group.get("weights"), dict))
