"""WB703 nxd-flag-spelling: the quantization dtype is spelled so that the compiler flag gets lost.

## What it does
Compares `quantization_dtype` with the one spelling, `f8e4m3`, that the check of the compiler flag takes.

## Why it matters
The validation turns the word to capitals, so `F8E4M3` and `f8e4m3fn` pass it. The flag `--experimental-unsafe-fp8e4m3fn-as-fp8e4m3` is set by
an exact comparison in small letters, and is then missing.

## Example
`"quantization_dtype": "f8e4m3fn"`.

## How to mend
Write `f8e4m3`.

## References
Rule R2 (NxD quantization/quantization_config.py 111-120) and NxDI models/model_wrapper.py 145-159; AWS Neuron documentation, error NCC_EVRF051.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.nxd_settings import READ_IN, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB703", "nxd-flag-spelling", "error", ("neuron",), READ_IN)
DTYPES = ("INT8", "F8E4M3", "F8E4M3FN", "F8E5M2", "F4E2M1FN_X4", "F8E4M3FN_X4", "F8E5M2_X4")  # NxD's QuantizedDtype
RIGHT = "f8e4m3"


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    if not n.quantized or "quantization_dtype" not in n.values:
        return
    value = n.values["quantization_dtype"]
    fix = Fix(f"write {RIGHT}", RIGHT, (n.edit("quantization_dtype", RIGHT),))
    if not isinstance(value, str) or value.upper() not in DTYPES:
        yield RULE.finding("quantization_dtype is no dtype that NxD knows", n.where("quantization_dtype"),
                           evidence=f"{value!r:.60}; known are {', '.join(DTYPES)}",
                           consequence=f"AssertionError: {value!s:.60} is not a valid QuantizedDtype.", fix=fix, runtime=target.runtime)
    elif value.upper() in ("F8E4M3", "F8E4M3FN") and value != RIGHT:
        yield RULE.finding("this spelling passes the validation and loses the compiler flag", n.where("quantization_dtype"),
                           evidence=f"{value!r}, not {RIGHT!r}",
                           consequence="the compiler runs without --experimental-unsafe-fp8e4m3fn-as-fp8e4m3: "
                           "[NCC_EVRF051] Data type F8E4M3FN is not supported on TRN1/TRN2", fix=fix, runtime=target.runtime)
