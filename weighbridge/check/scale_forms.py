"""What the config says of scales, beyond `Claims`, and small helpers that the rules about scales share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from weighbridge.check.case import Case, per_case
from weighbridge.check.finding import Edit, Where
from weighbridge.check.fold import folded
from weighbridge.check.modules import Module

# Parts that readers join to one weight, by their last word: (name of the joined weight, names of the parts).
JOINED = (("qkv_proj", ("q_proj", "k_proj", "v_proj")), ("gate_up_proj", ("gate_proj", "up_proj")), ("w13", ("w1", "w3")))
NVFP4_SCALES = "F8_E4M3"
MERGED_PARTS = {part: (joined, parts) for joined, parts in JOINED for part in parts}


@dataclass(frozen=True, slots=True)
class ScaleClaim:
    """The claim as rules about scales need it.

    `family` is fp8, ct (compressed-tensors), modelopt, neuron, awq, gptq, mxfp4, … or empty. `raw` is the claim as it stands, `weights` and
    `inputs` are what it says of weights and activations. `static` says that activations are scaled by numbers from the files.
    """

    family: str
    raw: dict[str, Any]
    weights: dict[str, Any]
    inputs: dict[str, Any]
    static: bool
    algorithm: str  # ModelOpt's quant_algo, or compressed-tensors' format, in lower case

    @property
    def microscaling(self) -> bool:
        """Whether scales are exponents in groups of 32 (MXFP8, MXFP4)."""
        return "mxfp" in self.algorithm or self.family.startswith("mx") or self.raw.get("weight_block_size") == [1, 32]


@per_case
def form(case: Case) -> ScaleClaim:
    raw = case.claims.raw
    groups = [group for group in _dict(raw.get("config_groups")).values() if isinstance(group, dict)]
    weights = next((w for group in groups if (w := _dict(group.get("weights")))), {})
    inputs = next((i for group in groups if (i := _dict(group.get("input_activations")))), {})
    method, algorithm = case.claims.method.lower(), _text(raw.get("quant_algo") or raw.get("format")).lower()
    if case.survey.neuron:
        family = "neuron"
    elif "modelopt" in method or raw.get("quant_algo"):
        family = "modelopt"
    elif method == "compressed-tensors" or groups:
        family = "ct"
    else:
        family = method
    static = raw.get("activation_scheme") == "static" or (bool(inputs) and inputs.get("dynamic") is False)
    if family == "modelopt" and not groups:
        static = algorithm in ("fp8", "nvfp4", "w4a8_awq", "w4afp8", "w4a8_nvfp4_fp8")
    return ScaleClaim(family, raw, weights, inputs, static, algorithm)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def at(names: Iterable[str]) -> Where:
    """The place of a finding about tensors."""
    listed = list(names)
    return Where(tensor=folded(listed), count=len(listed))


def odd(case: Case, code: str) -> list[tuple[str, str]]:
    """(name of the weight or scale, what its headers say) of one kind of disagreement."""
    return [(name, message) for (kind, message), names in case.survey.odd.items() if kind == code for name in names]


def module_of(name: str) -> str:
    """`a.b.weight` -> `a.b`; a name without a dot is its own module."""
    return name.rpartition(".")[0] or name


def siblings(modules: Iterable[Module]) -> list[tuple[str, list[Module]]]:
    """(path of the joined weight, its parts) for q/k/v and gate/up that lie apart, where at least two are here."""
    found: dict[str, list[Module]] = {}
    for module in modules:
        parent, _, leaf = module.path.rpartition(".")
        joined = MERGED_PARTS.get(leaf)
        if joined:
            found.setdefault(f"{parent}.{joined[0]}", []).append(module)
    return [(path, parts) for path, parts in found.items() if len(parts) > 1]


def nvfp4(module: Module) -> bool:
    """FP4 codes in pairs with E4M3 scales per group: NVFP4, whoever wrote it."""
    return module.scale is not None and module.scale.dtype == NVFP4_SCALES and module.weight.dtype in ("U8", "I8", "F4")


def unquantized(case: Case) -> list[str]:
    """Paths of linear layers and routers without codes: what a skip list must name."""
    return [m.path for m in case.modules.all if not m.quantized and len(m.weight.shape) == 2 and (m.linear or m.role == "router")]


def claim_edits(case: Case, claim: dict[str, Any]) -> tuple[Edit, ...]:
    """Replace the claim, where it stands in config.json."""
    place = {"config.json: quantization_config": ("quantization_config",),
             "config.json: text_config.quantization_config": ("text_config", "quantization_config")}.get(case.claims.source)
    return (Edit("config.json", place, claim),) if place else ()


def block_fp8(case: Case, block: tuple[int, int]) -> dict[str, Any]:
    """The claim of Hugging Face's block FP8 for these files."""
    return {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": list(block), "modules_to_not_convert": unquantized(case)}


def block_compressed(case: Case, block: tuple[int, int]) -> dict[str, Any]:
    """The claim of compressed-tensors' block FP8 for these files (the same numbers under the name `weight_scale`)."""
    weights = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": list(block), "symmetric": True, "dynamic": False}
    inputs = {"num_bits": 8, "type": "float", "strategy": "group", "group_size": block[1], "symmetric": True, "dynamic": True}
    return {"quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed", "ignore": unquantized(case),
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": inputs}}}


def stored(case: Case) -> set[tuple[str, str | None, str | None]]:
    """(dtype of the weight, suffix of its scale, dtype of its scale) of all weights, from the survey's rows: few, where modules are many."""
    return {(row.dtype, row.scale_suffix, row.scale_dtype) for row in case.survey.rows}
