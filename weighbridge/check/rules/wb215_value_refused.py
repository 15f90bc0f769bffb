"""WB215 value-refused: the reader refuses a value in the quantization config.

## What it does
Checks the values that each reader checks when it reads a block-FP8 config: `activation_scheme`, `weight_block_size`, `scale_fmt`,
`expert_dtype`.

## Why it matters
The load ends before the first weight.

## Example
`activation_scheme: static` together with `weight_block_size`, for vLLM and SGLang; a block of 64 x 64 for TensorRT-LLM.

## How to mend
Write the value that the finding names. Block scales go with dynamic activations.

## References
transformers 5.23.0 utils/quantization_config.py `FineGrainedFP8Config.post_init`; vLLM and SGLang main fp8.py `Fp8Config`; TensorRT-LLM main
`load_hf_quant_config` (the texts).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Where
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.check.claim_keys import read_by
from weighbridge.formats.stated import Stated

RULE = Rule("WB215", "value-refused", "error", ("transformers", "vllm", "sglang", "tensorrt-llm"),
            {"transformers": "transformers 5.23.0", "vllm": "vLLM main", "sglang": "SGLang main", "tensorrt-llm": "TensorRT-LLM main"})
ONLY_DYNAMIC = "ValueError: The block-wise quantization only supports dynamic activation scheme for now, but got {0} activation scheme."
NO_KEY = "ValueError: Cannot find any of ['activation_scheme'] in the model's quantization config."


def find(case: Case, target: Target) -> Iterator[Finding]:
    claim = read_by(case.stated, target.runtime)
    if claim is None or claim.method != "fp8":
        return
    for key, value, said, right in _refused(claim, target.runtime):
        yield RULE.finding(f"{target.runtime} refuses {key} {value!r:.40}", Where(claim.file, key=claim.key(key)), evidence=f"{key} is {value!r:.60}",
                           consequence=said,
                           fix=Fix(f"write {key}: {right}", right, (Edit(claim.file, (*claim.path, key), right),
                                                                    )) if right is not None else "use a reader that takes it",
                           runtime=target.runtime)


def _refused(claim: Stated, runtime: str) -> Iterator[tuple[str, object, str, object]]:
    scheme, block = claim.activation, claim.raw.get("weight_block_size")
    if runtime == "tensorrt-llm":
        if claim.block and claim.block != (128, 128):
            yield "weight_block_size", list(claim.block), "AssertionError: FP8_BLOCK_SCALES only supports block_size=(128,128)", None
        return
    if scheme and (scheme.lower() if runtime == "transformers" else scheme) not in ("dynamic", "static"):
        what = "Activation scheme {0} not supported" if runtime == "transformers" else "Unsupported activation scheme {0}"
        yield "activation_scheme", scheme, "ValueError: " + what.format(scheme[:60]), "dynamic"
    elif runtime in ("vllm", "sglang"):
        if not scheme:
            yield "activation_scheme", None, NO_KEY, "dynamic"
        elif claim.block and scheme != "dynamic":
            yield "activation_scheme", scheme, ONLY_DYNAMIC.format(scheme[:60]), "dynamic"
    if isinstance(block, list) and len(block) != 2:
        count = len(block)
        said = ("ValueError: weight_block_size must be a tuple of two integers" if runtime == "transformers" else
                f"ValueError: The quantization block size of weight must have 2 dimensions, but got {count} dimensions")
        yield "weight_block_size", block[:4], said, None
    if runtime == "transformers":
        if claim.scale_format not in ("", "float", "ue8m0"):
            yield "scale_fmt", claim.scale_format, f"ValueError: scale_fmt must be 'float' or 'ue8m0'; got {claim.scale_format!r:.60}", "float"
        if claim.expert_dtype not in ("", "fp8", "fp4"):
            yield "expert_dtype", claim.expert_dtype, f"ValueError: expert_dtype must be 'fp8' or 'fp4'; got {claim.expert_dtype!r:.60}", "fp8"
