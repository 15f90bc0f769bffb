"""sqnr: signal to quantization-noise ratio, the error of a whole tensor in decibels.

## What it is
    SQNR = 10 log10( sum(weight^2) / sum((weight - stored)^2) )

Higher is better; 6 dB are one bit, 20 dB a factor of ten in the error. A relative error e (root mean square) is -20 log10(e) dB. `verify`
gives it for each weight and for all together, as total signal over total error.

## In numbers
One block of Gaussian weights: to BF16 {bf16}, to FP8 {fp8}; from there to Neuron by halving {halving}, by 448/240 {legacy}. A reciprocal
for a scale gives {wrong}: minus, since the error is larger than the signal.

## What goes wrong
* One average hides a single bad tensor: look at the worst one, too.
* It compares stored weights, not answers. `compare` measures what a difference costs when the model runs.
* Small values count for little. A tensor with one large outlier has a fine SQNR and no precision left for the rest.

## See also
amax, halving, legacy-448-240, reciprocal, block-quantization

## References
Weighbridge's verify/run.py; docs/architecture.md, "How a proof works".
"""

from __future__ import annotations

from math import log10

from weighbridge.lessons.arithmetic import block

ALSO = ("snr", "decibel", "db")


def numbers() -> dict[str, str]:
    made = block()
    named = {name: f"{-20 * log10(made[name]):.1f} dB" for name in ("bf16", "fp8", "halving", "legacy")}
    return named | {"wrong": f"{-20 * log10(made['reciprocal_factor']):.0f} dB"}
