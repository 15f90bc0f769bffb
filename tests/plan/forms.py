"""Small sound checkpoints in forms that no verb reads values from yet, with the words for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.failures import quantized as q
from tests.failures.tools import Config, Tensors


def _mxfp4(tensors: Tensors, path: str, shape: tuple[int, int]) -> None:
    tensors[path + ".weight_packed"] = ("U8", (shape[0], shape[1] // 2))
    tensors[path + ".weight_scale"] = ("U8", (shape[0], shape[1] // 32))


def _int8(tensors: Tensors, path: str, shape: tuple[int, int]) -> None:
    tensors[path + ".weight"] = ("I8", shape)
    tensors[path + ".weight_scale"] = ("BF16", (shape[0], 1))


def _each(put: Callable[[Tensors, str, tuple[int, int]], None], form: str, **weights: Any) -> q.Make:
    def made() -> tuple[Tensors, Config]:
        tensors, config = q.dense()()
        config["quantization_config"] = {"quant_method": "compressed-tensors", "format": form, "ignore": ["lm_head"],
                                         "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}
        return q.encoded(tensors, put), config
    return made


# name -> (maker, words of the refusal, number of weights in the form)
FORMS: dict[str, tuple[q.Make, str, int]] = {
    "int4": (q.compressed_int4(q.dense()), "packed INT4 (compressed-tensors)", 14),
    "int4-asymmetric": (q.compressed_int4(q.dense(), symmetric=False, points=True), "packed INT4 (compressed-tensors)", 14),
    "int4-experts": (q.compressed_int4(q.experts()), "packed INT4 (compressed-tensors)", 56),
    "nvfp4": (q.compressed_nvfp4(q.dense()), "NVFP4 (compressed-tensors)", 14),
    "modelopt-nvfp4": (q.modelopt_nvfp4(q.dense()), "NVFP4 (", 14),
    "mxfp4": (_each(_mxfp4, "mxfp4-pack-quantized", num_bits=4, type="float", strategy="group", group_size=32), "MXFP4 (compressed-tensors)", 14),
    "int8": (_each(_int8, "int-quantized", num_bits=8, type="int", strategy="channel"), "INT8 (compressed-tensors)", 14),
    "fp8-channel": (q.compressed_fp8(q.dense()), "F8_E4M3 with one scale for each row", 14),
    "fp8-tensor": (q.compressed_fp8(q.dense(), strategy="tensor", static=True), "F8_E4M3 with one scale for each tensor", 14),
    "gptq": (q.gptq(q.dense()), "packed INT4 (gptq)", 14),
}


def write(folder: Path, name: str) -> Path:
    """A checkpoint of the form `name`."""
    return q.written(FORMS[name][0])(folder)
