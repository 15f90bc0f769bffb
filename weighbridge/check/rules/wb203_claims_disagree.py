"""WB203 claims-disagree: two places say different things of the quantization.

## What it does
Compares all places where a quantization config stands, and the keys of one place that mean the same (`ignored_layers` and
`modules_to_not_convert`).

## Why it matters
Each reader looks at its own place first: what loads here fails there.

## Example
config.json says `group_size` 16, hf_quant_config.json says 32.

## How to mend
Decide by the tensors which one is right, and write it at both places.

## References
docs/formats: where a claim stands; vLLM config/model.py, TensorRT-LLM _torch/model_config.py (hf_quant_config.json first).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule
from weighbridge.formats.stated import Stated

RULE = Rule("WB203", "claims-disagree", "error")
SHOWN = {"family": "quant_method", "algo": "quant_algo", "block": "block", "group": "group_size", "bits": "bits"}


def find(case: Case) -> Iterator[Finding]:
    claims = [c for c in case.stated if c.place not in ("neuron", "metadata")]
    for claim in claims:
        yield from _aliases(claim)
    for first, second in ((a, b) for i, a in enumerate(claims) for b in claims[i + 1:]):
        for name, shown in SHOWN.items():
            one, two = getattr(first, name), getattr(second, name)
            if one and two and one != two and not (name == "family" and (second.place == "quantize" or _mixed(first, second))):
                yield RULE.finding(f"Two places disagree on {shown}", Where(first.file, key=first.key(shown)),
                                   evidence=f"{_text(one)} in {first.where}, {_text(two)} in {second.where}",
                                   consequence="each reader looks at another place first: it fails or computes wrongly in one of them",
                                   fix="decide by the tensors which is right, and write it at both places")
        yield from _lists(first, second)


def _mixed(*claims: Stated) -> bool:
    """ModelOpt's mixed checkpoints keep `quant_method: fp8` in config.json for the layers that it left (DeepSeek-V4-Flash-NVFP4)."""
    return any(c.algo == "MIXED_PRECISION" for c in claims)


def _aliases(claim: Stated) -> Iterator[Finding]:
    """Two skip lists in one claim."""
    lists = [(key, entries) for key, entries in claim.lists.items() if entries and key != "dynamic"]
    for (key, entries), (other, others) in ((a, b) for i, a in enumerate(lists) for b in lists[i + 1:]):
        if set(entries) != set(others):
            yield _list_finding(claim.key(key), entries, claim.key(other), others, claim.file)


def _lists(first: Stated, second: Stated) -> Iterator[Finding]:
    one, two = ((c, *next(((k, e) for k, e in c.lists.items() if k != "dynamic"), ("", ()))) for c in (first, second))
    if one[1] and two[1] and set(one[2]) != set(two[2]):
        yield _list_finding(f"{one[0].where}.{one[1]}", one[2], f"{two[0].where}.{two[1]}", two[2], first.file)


def _list_finding(key: str, entries: tuple[str, ...], other: str, others: tuple[str, ...], file: str) -> Finding:
    odd = sorted(set(entries) ^ set(others))
    return RULE.finding("Two skip lists disagree", Where(file, key=key, count=len(odd)),
                        evidence=f"{len(entries):,} entries in {key}, {len(others):,} in {other}; {odd[0]!r:.80} is in one only",
                        consequence="what is skipped hangs on the reader", fix="write the same list at both places", severity="warning")


def _text(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
