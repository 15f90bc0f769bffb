"""compressed-tensors: `config_groups`, `ignore`, and formats by their names. Keys inside groups and Args are exact: others are an error there.

Read in compressed-tensors 0.20 `quant_config.py`, `quant_args.py`, `quant_scheme.py` (the presets FP8, FP8_DYNAMIC, FP8_BLOCK, INT8, W4A16,
W4A16_ASYM, NVFP4A16, NVFP4, MXFP4A16, MXFP8) and vLLM 0.33 `compressed_tensors.py`.
"""

from __future__ import annotations

from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.formats.scheme import Encoding
from weighbridge.layouts.configs import base
from weighbridge.layouts.configs.facts import Facts, Held, Written

FAMILY = "compressed-tensors"
Args = dict[str, Any]
_KV = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True}
# Format by (dtype of the codes, element of the scale); packed integers are told by their words.
_FORMATS = {("I32", ""): "pack-quantized", ("U8", "e4m3fn"): "nvfp4-pack-quantized", ("U8", "e8m0"): "mxfp4-pack-quantized",
            ("F8_E4M3", "e8m0"): "mxfp8-quantized", ("F8_E4M3", ""): "float-quantized", ("I8", ""): "int-quantized"}
_SCALE_DTYPES = {"e8m0": "torch.uint8", "e4m3fn": "torch.float8_e4m3fn"}


def written(facts: Facts) -> Written:
    """Raises WeighbridgeError where the layout's readers take no static scales of activations and some are to be carried."""
    if not facts.held:
        base.only_encoding(facts)
    facts = merged(facts)
    groups = {f"group_{n}": _group(facts, held) for n, held in enumerate(facts.held)}
    formats = sorted({group["format"] for group in groups.values()})
    return base.written(facts, {
        "quant_method": FAMILY, "format": formats[0] if len(formats) == 1 else "mixed-precision", "quantization_status": "compressed",
        "config_groups": groups, "ignore": base.skip_list(facts, FAMILY), "global_compression_ratio": None,
        "kv_cache_scheme": dict(_KV) if facts.kv_cache else None})


def merged(facts: Facts) -> Facts:
    """Encodings with the same Args are one group."""
    return base.merged(facts, lambda encoding: (weights(encoding), format_of(encoding), _static(facts, encoding)))


def _static(facts: Facts, encoding: Encoding) -> bool:
    """Beside a group with scales of its activations another may have none: packed integers, say."""
    return facts.static and (len(facts.held) == 1 or base.has_activation_scale(encoding))


def _group(facts: Facts, held: Held) -> dict[str, Any]:
    """Groups of one checkpoint never overlap: whichever is looked at first, a module has one."""
    encoding = held.encoding
    return {"targets": ["Linear"] if len(facts.held) == 1 else base.targets(facts, held), "weights": weights(encoding),
            "input_activations": activations(encoding, _static(facts, encoding)), "output_activations": None, "format": format_of(encoding)}


def format_of(encoding: Encoding) -> str:
    return _FORMATS[encoding.dtype, _coded_scale(encoding)]


def _coded_scale(encoding: Encoding) -> str:
    """The element of the scale where it is no plain float."""
    return encoding.scale.element if encoding.scale and encoding.scale.element in _SCALE_DTYPES else ""


def weights(encoding: Encoding) -> Args:
    """Args of the weights, from the encoding alone."""
    args: Args = {"num_bits": base.bits(encoding), "type": "float" if base.is_float(encoding) else "int", "symmetric": not base.has_zeros(encoding),
                  "strategy": _strategy(encoding), "dynamic": False}
    if encoding.strategy == "group":
        args["group_size"] = base.group_size(encoding)
    if encoding.strategy == "block":
        args["block_structure"] = list(encoding.block or ())
    if _coded_scale(encoding):
        args["scale_dtype"] = _SCALE_DTYPES[_coded_scale(encoding)]
    return args


def _strategy(encoding: Encoding) -> str:
    """NVFP4's groups lie within a tensor that has a scale, too."""
    return "tensor_group" if encoding.scale and encoding.scale.inner else encoding.strategy


def activations(encoding: Encoding, static: bool) -> Args | None:
    """Args of the activations; None where weights alone are quantized.

    A reader picks its kernel by them, so they are those of the preset of this scheme: one scale per token, per 128 channels for blocks.
    """
    kind = {"num_bits": base.bits(encoding), "type": "float" if base.is_float(encoding) else "int", "symmetric": True}
    coded = _coded_scale(encoding)
    if coded == "e4m3fn":
        return {**kind, "strategy": "tensor_group", "group_size": 16, "dynamic": "local", "scale_dtype": _SCALE_DTYPES[coded]} if static else None
    if static:
        if encoding.strategy not in ("tensor", "channel") or encoding.code.packing.packed:
            raise WeighbridgeError("config-static", f"{encoding.scheme}: no reader takes a static scale of the activations beside it",
                                   "config.json: quantization_config", "leave --activation-scales out")
        return {**kind, "strategy": "tensor", "dynamic": False}
    if coded == "e8m0":
        wide = base.bits(encoding) == 8  # MXFP4 is written for plain activations
        return {**kind, "strategy": "group", "group_size": 32, "dynamic": True, "scale_dtype": _SCALE_DTYPES[coded]} if wide else None
    if encoding.strategy == "block":
        return {**kind, "strategy": "group", "group_size": (encoding.block or (0, 128))[1], "dynamic": True}
    return {**kind, "strategy": "token", "dynamic": True} if not encoding.code.packing.packed else None
