"""legacy-448-240: codes divided by 448/240, scales multiplied by it; the lossy way to 240.

## What it is
The way of NxD's README and of the published scripts for Llama 4 and MiniMax-M2. 448/240 = 1.8667 is no power of two, so nearly every code
falls between two codes and is rounded again. The MiniMax-M2 script rounds twice: through BF16, then to FP8.

## In numbers
Of the {normals} normal codes {changed} change value: {mean} on average, {most} at most. In a Gaussian block {share} of the weights change,
with an error of {error} (root mean square). FP8 itself cost {fp8}; together it is {total}. Halving costs {halving}.

## What goes wrong
The model gets as much new error as the FP8 quantization had, and nothing says so. Blocks of such a checkpoint end at exactly 240. Nothing
asks for that: 240 is a bound, and halved codes keep it without a rounding.

## See also
halving, 240-vs-448, sqnr, WB431

## References
NxD 2.29 quantization/README_rescaling_fp8_for_neuron.md; contrib MiniMax-M2 src/conversion_script/preprocess_minimax_m2_fp8.py;
Weighbridge's encoding/codec.py `legacy_rescale`.
"""

from __future__ import annotations

from weighbridge.lessons.arithmetic import block, codes, percent


def numbers() -> dict[str, str]:
    counted, made = codes(), block()
    return {"normals": str(counted["normals"]), "changed": str(counted["legacy_changes_normals"]), "mean": percent(counted["legacy_mean_ppm"] / 1e6),
            "most": percent(counted["legacy_max_ppm"] / 1e6), "share": percent(made["legacy_changed"]), "error": percent(made["legacy"]),
            "fp8": percent(made["fp8"]), "total": percent(made["legacy_total"]), "halving": percent(made["halving"])}
