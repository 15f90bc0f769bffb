"""WB412 input-scale-missing: activations are to be scaled by numbers from the files, and these are not there.

## What it does
Where the claim is static (activation_scheme, `dynamic: false`, ModelOpt's FP8, NVFP4 and W4A8), it looks for `input_scale`, `input_global_scale`
or `activation_scale` beside every quantized weight.

## Why it matters
The load ends with a KeyError, or the scale stays at what was in memory and activations overflow.

## Example
A W4A8 export without calibration: `0.w3.input_scale` is in no file.

## How to mend
Calibrate and export again; or claim dynamic activations, where the reader has them for this format.

## References
NVIDIA/TensorRT-LLM#6530 (the text).
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix
from weighbridge.check.modules import Module
from weighbridge.check.rule import Rule
from weighbridge.check.scale_forms import at, form

RULE = Rule("WB412", "input-scale-missing", "error")
NAMES = (".input_scale", ".activation_scale", ".input_global_scale", "_input_scale", "_activation_scale", ".qscale_act")


def find(case: Case) -> Iterator[Finding]:
    claim = form(case)
    if claim.family not in ("fp8", "ct", "modelopt") or not (claim.static or claim.inputs.get("dynamic") == "local"):
        return
    coded = [m for m in case.modules.all if m.quantized and m.scale is not None and m.suffix in (".weight", ".weight_packed", "")]
    tensors = case.checkpoint.tensors
    bare = [m for m in coded if not any(m.path + name in tensors for name in NAMES)]
    if not bare:
        return
    name = ".input_global_scale" if claim.inputs.get("dynamic") == "local" or "nvfp4" in claim.algorithm and claim.family == "ct" else \
        ".activation_scale" if claim.family == "fp8" and bare[0].scale_suffix == ".weight_scale_inv" else ".input_scale"
    yield RULE.finding("Static activation scales are claimed and not in the files", at(m.path + name for m in bare),
                       evidence=f"{_said(case)}; {len(bare):,} of {len(coded):,} quantized weights have no {name[1:]}",
                       consequence=f"KeyError: '{_short(bare[0])}{name}', or the scale stays at whatever was in memory",
                       fix=_fix(case))


def _said(case: Case) -> str:
    claim = form(case)
    if claim.raw.get("activation_scheme") == "static":
        return "activation_scheme static"
    return f"input_activations dynamic {claim.inputs.get('dynamic')!r}" if claim.inputs else f"quant_algo {claim.raw.get('quant_algo')}"


def _short(module: Module) -> str:
    """As TensorRT-LLM spells an expert: `0.w3`."""
    _, found, expert = module.path.rpartition(".experts.")
    return expert if found else module.path.removeprefix("model.")


def _fix(case: Case) -> Fix:
    claim = form(case)
    if claim.raw.get("activation_scheme") == "static" and case.claims.source == "config.json: quantization_config":
        return Fix("say activation_scheme dynamic, which needs no numbers; or calibrate and export again", "dynamic",
                   (Edit("config.json", ("quantization_config", "activation_scheme"), "dynamic"),))
    return Fix("calibrate and export again")
