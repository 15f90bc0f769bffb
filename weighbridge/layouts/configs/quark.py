"""AMD Quark: `global_quant_config`, `exclude` and `export`, whose keys its readers ask for by name.

Read in amd-quark 0.13 `export/`, vLLM 0.33 `quark/quark.py` (`_is_fp8_w8a8`, `_find_matched_config`), and AMD's published files.
"""

from __future__ import annotations

from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.formats.scheme import Encoding
from weighbridge.layouts.configs import base
from weighbridge.layouts.configs.facts import Facts, Written

FAMILY = "quark"
_DTYPES = {"e4m3fn": "fp8_e4m3", "e2m1": "fp4", "int8": "int8"}


def written(facts: Facts) -> Written:
    """Raises WeighbridgeError where encodings are mixed, and for an element that Quark has no word for."""
    encoding = base.only_encoding(facts, weights)
    return base.written(facts, {
        "quant_method": FAMILY, "quant_mode": "eager_mode", "exclude": base.skip_list(facts, FAMILY), "algo_config": None,
        "export": {"kv_cache_group": [], "min_kv_scale": 0.0, "pack_method": "reorder", "weight_format": "real_quantized", "weight_merge_groups": None},
        "global_quant_config": {"weight": weights(encoding), "input_tensors": activations(encoding, facts.static), "output_tensors": None, "bias": None},
        "layer_quant_config": {}, "layer_type_quant_config": {}})


def weights(encoding: Encoding) -> dict[str, Any]:
    """Quark's words for an encoding."""
    if encoding.element not in _DTYPES:
        raise WeighbridgeError("config-element", f"Quark has no word for {encoding.element}; it has {', '.join(_DTYPES.values())}",
                               "config.json: quantization_config", "choose another layout: this is a fault of the plan")
    spec: dict[str, Any] = {"dtype": _DTYPES[encoding.element], "qscheme": f"per_{encoding.strategy}", "is_dynamic": False, "symmetric": None,
                            "ch_axis": 0 if encoding.strategy == "channel" else None, "group_size": None, "scale_format": None}
    if encoding.strategy == "group":
        spec |= {"group_size": base.group_size(encoding), "ch_axis": -1, "scale_format": "e8m0" if encoding.scale and encoding.scale.element == "e8m0" else "float"}
    return spec


def activations(encoding: Encoding, static: bool) -> dict[str, Any]:
    """Scales of the input beside FP8: stored ones are of the tensor; dynamic ones are counted as those of the weight."""
    spec = weights(encoding) | {"is_dynamic": not static}
    return spec | ({"qscheme": "per_tensor", "ch_axis": None} if static else {})
