"""Readers of each layout: the formats' own libraries, from the files of a folder to float values under published names.

compressed-tensors and ModelOpt decode by their own classes. gptqmodel and autoawq do not install beside this torch; what they do is written down
here, a statement for each of theirs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open

State = dict[str, torch.Tensor]


def stored(folder: Path) -> State:
    """All tensors of a folder. U8 stands for E8M0 too, which few readers of files know."""
    found: State = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    return found


def claim(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text()).get("quantization_config", {})


def modules(state: State, suffix: str) -> Iterator[tuple[str, State]]:
    """(module, its tensors without their prefix) of each module that has a tensor `.suffix`. They are taken out of `state`."""
    for name in [n for n in state if n.endswith(f".{suffix}")]:
        module = name.removesuffix(f".{suffix}")
        own = [n for n in state if n.rpartition(".")[0] == module]
        yield module, {n.rpartition(".")[2]: state.pop(n) for n in own}


def compressed_tensors(folder: Path, wide: bool = False) -> State:
    """compressed-tensors 0.20: the compressor that the claim names decompresses the modules that the claim's targets match.

    It multiplies in the dtype of the scales. `wide`: those that are floats are float32 first.
    """
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig

    said = QuantizationConfig.model_validate(claim(folder))
    state, skipped = stored(folder), set(said.ignore)
    (group,) = said.config_groups.values()
    compressor = BaseCompressor.get_value_from_registry(group.format)
    out: State = {}
    for module, own in modules(state, "weight_scale"):
        assert module not in skipped, f"{module} is on the list of what is not quantized"
        if wide and own["weight_scale"].dtype in (torch.bfloat16, torch.float16):
            own["weight_scale"] = own["weight_scale"].float()
        out[f"{module}.weight"] = compressor.decompress(own, group)["weight"]
        out |= {f"{module}.bias": own["bias"]} if "bias" in own else {}
    return state | out


def modelopt(folder: Path) -> State:
    """nvidia-modelopt 0.47: the QTensor of the algorithm that hf_quant_config.json names."""
    from modelopt.torch.quantization.qtensor import FP8QTensor, MXFP8QTensor, NVFP4QTensor

    said = json.loads((folder / "hf_quant_config.json").read_text())["quantization"]
    algo, state, out = said["quant_algo"], stored(folder), {}
    for module, own in modules(state, "weight_scale"):
        assert module not in said["exclude_modules"]
        weight, scale = own["weight"], own["weight_scale"]
        f32, shape = torch.float32, weight.shape
        if algo in ("NVFP4", "W4A16_NVFP4"):
            packed = NVFP4QTensor(torch.Size((shape[0], 2 * shape[1])), f32, weight)
            value = packed.dequantize(f32, scale=scale, double_scale=own["weight_scale_2"], block_sizes={-1: said["group_size"]})
        elif algo == "MXFP8":
            value = MXFP8QTensor(shape, f32, weight).dequantize(f32, scale=scale)
        elif algo == "FP8_PB_WO":
            blocks = scale.squeeze(3).squeeze(1)  # stored as [rows, 1, columns, 1]
            value = FP8QTensor(shape, f32, weight).dequantize(f32, scale=blocks, block_sizes={-1: 128, -2: 128})
        else:
            value = FP8QTensor(shape, f32, weight).dequantize(f32, scale=scale if scale.ndim == 0 else scale[:, None])
        out[f"{module}.weight"] = value
    return state | out


def _nibbles(words: torch.Tensor) -> torch.Tensor:
    """Eight values of each int32, the lowest bits first: [..., 8]."""
    return torch.bitwise_right_shift(words.unsqueeze(-1), torch.arange(0, 32, 4, dtype=torch.int32)) & 15


def gptq(folder: Path) -> State:
    """gptqmodel 7.7 `nn_modules/qlinear/__init__.py`, dequantize_weight: scales[g_idx] * (codes - zeros[g_idx]), for version 2 of the zeros."""
    assert claim(folder)["checkpoint_format"] == "gptq_v2" and claim(folder)["bits"] == 4
    assert json.loads((folder / "quantize_config.json").read_text()) == claim(folder)
    state, out = stored(folder), {}
    for module, own in modules(state, "qweight"):
        codes = _nibbles(own["qweight"]).transpose(1, 2).flatten(0, 1)  # [in, out]
        zeros, group = _nibbles(own["qzeros"]).flatten(1), own["g_idx"].long()
        out[f"{module}.weight"] = (own["scales"].float()[group] * (codes - zeros[group])).T.contiguous()
    return state | out


def awq(folder: Path) -> State:
    """autoawq 0.2.9 `utils/packing_utils.py`, dequantize_gemm: (codes - zeros) * scales, each by the order of AWQ."""
    said, state, out = claim(folder), stored(folder), {}
    assert said["version"] == "gemm" and said["zero_point"] and said["bits"] == 4
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    for module, own in modules(state, "qweight"):
        codes, zeros = (_nibbles(own[name])[..., order].flatten(1) for name in ("qweight", "qzeros"))
        wide = [t.repeat_interleave(said["group_size"], 0) for t in (zeros, own["scales"].float())]
        out[f"{module}.weight"] = ((codes - wide[0]) * wide[1]).T.contiguous()
    return state | out


READERS: dict[str, Callable[[Path], State]] = {"compressed-tensors": compressed_tensors, "modelopt": modelopt, "gptq": gptq, "awq": awq}
