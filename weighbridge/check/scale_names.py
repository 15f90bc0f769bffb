"""How scales are spelt: by whom, and what no reader knows."""

from __future__ import annotations

from typing import NamedTuple

from weighbridge.check.case import Case, per_case
from weighbridge.check.modules import Module
from weighbridge.check.scale_forms import form, module_of, odd, stored

# Words that hold `scale` and are not the weight's own scale.
_OTHER = ("input", "activation", "act", "output", "k_scale", "v_scale", "q_scale", "kv_scale", "zero", "global", "scale_2", "rope", "logit", "clip")


class ScaleNames(NamedTuple):
    """Suffixes that a reader takes for the scale of a weight, and what it does with others. `{}` is the name that it meets."""

    suffixes: tuple[str, ...]
    consequence: str


@per_case
def misspelt(case: Case) -> dict[str, str]:
    """Weight without a known scale -> the tensor beside it whose name speaks of a scale (`.scale_weight`, `.weight_scales`)."""
    bare: dict[str, list[str]] = {}
    for name, _ in odd(case, "weight-without-scale"):
        bare.setdefault(module_of(name), []).append(name)
    if not bare:
        return {}
    found: dict[str, str] = {}
    for name in case.checkpoint.tensors:
        module, _, leaf = name.rpartition(".")
        if module in bare and "scale" in leaf.lower() and not any(word in leaf.lower() for word in _OTHER):
            for weight in bare[module]:
                own = weight.rpartition(".")[2]
                if own in ("weight", "weight_packed", "qweight") or leaf.startswith(own):
                    found.setdefault(weight, name)
    return found


def wrapped(case: Case, name: str) -> bool:
    """A weight whose description lies elsewhere: torchao's and ComfyUI's lie in the file's metadata."""
    tensor = case.checkpoint.tensors.get(name)
    header = case.checkpoint.headers.get(tensor.file) if tensor is not None else None
    return bool(header and ("_quantization_metadata" in header.metadata or form(case).family == "torchao"))


def wanted(case: Case, runtime: str) -> ScaleNames | None:
    """What `runtime` calls the scale of these weights, by the claim; None where it is not known here."""
    family, blocks = form(case).family, bool(case.claims.blocks)
    if runtime == "neuron":
        return ScaleNames((".scale", ".weight_scale", ".weight_scale_inv"), "RuntimeError: Cannot find {module}.scale in state_dict (NxDI renames only .weight_scale)")
    if case.checkpoint.model_type in ("deepseek_v4", "inkling2"):
        return None  # classes with a name map of their own
    if runtime in ("vllm", "sglang", "tensorrt-llm") and family == "fp8" and blocks:
        text = {"vllm": "KeyError: '{tensor}'", "sglang": "Parameter {tensor} not found in params_dict: only a warning, the scale stays unset",
                "tensorrt-llm": "no error: the scale is not loaded"}[runtime]
        return ScaleNames((".weight_scale_inv", "_scale_inv"), text)
    if runtime == "transformers" and family == "fp8":
        return ScaleNames((".weight_scale_inv", "_scale_inv", ".scale", ".qscale_weight"), "a warning that {tensor} was not used: the scale stays at its initial value")
    if family == "ct" and runtime in ("vllm", "sglang", "transformers"):
        text = "KeyError: '{tensor}'" if runtime == "vllm" else "Parameter {tensor} not found in params_dict: only a warning, the scale stays unset"
        return ScaleNames((".weight_scale", "_scale"), text)
    if family == "modelopt" and runtime in ("vllm", "sglang", "tensorrt-llm"):
        return ScaleNames((".weight_scale", "_scale"), "KeyError: '{tensor}'" if runtime == "vllm" else "no error: the scale is not loaded")
    return None


def wrong_names(case: Case, runtime: str) -> tuple[list[Module], ScaleNames | None]:
    """Quantized modules whose scale has a name that the reader does not take."""
    want = wanted(case, runtime)
    if want is None or not any(suffix is not None and suffix not in want.suffixes for _, suffix, _ in stored(case)):
        return [], None
    coded = (".weight", ".weight_packed", "")
    return [m for m in case.modules.all if m.scale is not None and m.quantized and m.suffix in coded and m.scale_suffix not in want.suffixes
            and not (runtime == "sglang" and fp4_expert(m))], want


def fp4_expert(module: Module) -> bool:
    """An expert stored alone as FP4 pairs with a scale called `.scale`, which SGLang's name map rewrites."""
    return module.scale_suffix == ".scale" and module.weight.dtype in ("U8", "I8", "F4") and module.role.startswith("experts.") and module.expert >= 0
