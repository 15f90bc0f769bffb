"""WB204 scheme-refuted: the claimed method is not what the tensors hold.

## What it does
Compares the claimed method (`quant_method`, `quant_algo`, the type and bits of config_groups) with the dtypes and names in the headers.

## Why it matters
A reader makes its parameters by the claim: it looks for names and shapes that are not there.

## Example
`quant_method: fp8`, and the experts are `weight_packed` words of eight INT4 codes each.

## How to mend
Use the config.json that belongs to these files, or write the method that the headers show.

## References
kvcache-ai/ktransformers#2067; sgl-project/sglang#20196; vLLM `create_weights` of each method.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import claim_find
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.fold import folded
from weighbridge.check.rule import Rule

RULE = Rule("WB204", "scheme-refuted", "error")


# What a claim of the method cannot do without, and what readers say where it is missing.
NEEDED = {"compressed-tensors": ("config_groups", "no layer finds a target: the load fails, or codes are taken for values"),
          "modelopt": ("quant_algo", "ValueError: Missing 'quant_algo' in quantization config")}


def find(case: Case) -> Iterator[Finding]:
    claim = claim_find.main_claim(case)
    if claim is not None and case.survey.quantized:
        key, said = NEEDED.get(claim.family, ("", ""))
        if key and not claim.raw.get(key):
            yield RULE.finding(f"The configuration claims {claim.method} and has no {key}", Where(claim.file, key=claim.key(key)),
                               evidence=f"keys {', '.join(sorted(map(str, claim.raw))[:8])}; {case.survey.quantized:,} weights hold codes",
                               consequence=said,
                               fix="use the config.json that belongs to these files")
    expected = claim_find.expected_encodings(claim) if claim and not case.survey.neuron else frozenset()
    wrong = [s for s in claim_find.stored(case) if s.encoding not in expected] if expected else []
    if not wrong or claim is None:
        return
    count = sum(s.pair.count for s in wrong)
    kinds = ", ".join(dict.fromkeys(claim_find.NAMES[s.encoding] for s in wrong))
    what = claim.algo or claim.method
    yield RULE.finding(f"The configuration claims {what}, and {count:,} weights hold {kinds}",
                       Where(claim.file, tensor=folded(s.name for s in wrong), key=".".join(claim.path), count=count),
                       evidence=f"{wrong[0].pair.row.dtype} {list(wrong[0].shape)} at {wrong[0].name}; {what} stores "
                       + " or ".join(claim_find.NAMES[e] for e in sorted(expected)),
                       consequence="KeyError or a shape error at the first such weight, or codes are taken for values",
                       fix="use the config.json that belongs to these files")
