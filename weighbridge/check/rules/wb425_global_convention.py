"""WB425 global-convention: the second scale of NVFP4 is a divisor where a multiplier is meant, or the other way round.

## What it does
compressed-tensors stores `weight_global_scale` = 2688 / amax and divides; ModelOpt stores `weight_scale_2` = amax / 2688 and multiplies
(2688 = 6 x 448). The rule looks at names against the claim, and at values: a divisor is far above 1, a multiplier far below.

## Why it matters
The product is off by the square of the scale, a factor of about a million, without an error.

## Example
`weight_scale_2` of 1,900.

## How to mend
Store the reciprocal under the name that the finding gives. Both conventions hold the same numbers otherwise.

## References
modular/modular#6699; ggml-org/llama.cpp#21095; compressed-tensors 0.20.0 quantization/lifecycle/forward.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, form
from weighbridge.check.scales import scales_of

RULE = Rule("WB425", "global-convention", "error")
MULTIPLIER, DIVISOR = "weight_scale_2", "weight_global_scale"
CONVENTIONS: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    (MULTIPLIER, lambda value: value > 1, "a multiplier amax / 2688, below 1"),
    (DIVISOR, lambda value: value < 1, "a divisor 2688 / amax, above 1"),
    ("input_global_scale", lambda value: value < 0.05, "a divisor 2688 / amax; below 0.05 activations would exceed 50,000"),
)


def find(case: Case) -> Iterator[Finding]:
    foreign = {"ct": MULTIPLIER, "modelopt": DIVISOR}.get(form(case).family, "")
    keys = [key for key in case.survey.keys.values() if key.what == "helper" and key.names]
    names = sorted(name for key in keys if foreign and key.names[0].endswith("." + foreign) for name in key.names)
    if names:
        right = DIVISOR if foreign == MULTIPLIER else MULTIPLIER
        yield RULE.finding(f"Second scales are called {foreign}, which the claimed format does not have", at(names),
                           evidence=f"{case.claims.method or form(case).algorithm} has {right}; the files have {len(names):,} {foreign}",
                           consequence="KeyError, or no error: the second scale stays at whatever was in memory",
                           fix=Fix(f"store 1 / value under the name {right}", right))
    for name, wrong, text in CONVENTIONS:
        yield from _by_value(case, name, wrong, text)


def _by_value(case: Case, leaf: str, wrong: Callable[[float], bool], text: str) -> Iterator[Finding]:
    import numpy as np

    scales = scales_of(case)
    places = [place for place in scales.places_of("input" if leaf.startswith("input") else "global") if scales.sources[place].name.endswith("." + leaf) and scales.finite[place] and scales.least[place] > 0]
    if not places:
        return
    middle = float(np.median(scales.largest[places]))
    if wrong(middle) and middle != 1:
        yield RULE.finding(f"{leaf} holds the reciprocal", at(scales.sources[p].name for p in places),
                           evidence=f"median {middle:.4g} of {len(places):,}; {leaf} is {text}",
                           consequence=f"no error: weights {max(middle, 1 / middle) ** 2:.1g} times off", fix=Fix("store 1 / value", None))
