"""e_score_correction_bias: a number for each expert that helps to choose it, and is not in the weights of the sum.

## What it is
One float32 value for each expert in each layer with a router ({experts} in MiniMax-M2). It balances the load: the reader adds it to the
sigmoid scores, takes the best {top}, and weights them by the scores without it.

## Who multiplies, who divides
Nobody: it is added, and only for the choice. transformers 5.23.0 models/minimax_m2 and DeepSeek-V3's gate do so. It has no scale and is
never quantized.

## In numbers
MiniMax-M2's values are 8 to 9.5; a score is between 0 and 1. In BF16 the numbers from 8 to 16 are {step} apart, so scores that differ by
less tie, and other experts are chosen.

## What goes wrong
* NxD casts all floats to BF16 (`cast_type: config`), this bias too. No file mends that.
* It stands in MiniMax-M2's `modules_to_not_convert`, but it is a parameter, no module: no reader finds a module of that name, and that is
  no fault.
* It is left out by a converter that keeps `.weight` tensors only.

## See also
router, bf16, modules_to_not_convert, expert-parallel, WB719

## References
transformers 5.23.0 models/minimax_m2/modular_minimax_m2.py; contrib MiniMax-M2 src/modeling_minimax_m2.py 277; NxDI models/model_wrapper.py
1452-1526.
"""

from __future__ import annotations

from weighbridge.lessons.published import CONFIG

ALSO = ("routing-bias", "correction-bias")


def numbers() -> dict[str, str]:
    from weighbridge.lessons.wide import WIDE

    return {"experts": str(CONFIG["num_local_experts"]), "top": str(CONFIG["num_experts_per_tok"]), "step": f"{2.0 ** (3 - WIDE['bf16'].mantissa):g}"}
