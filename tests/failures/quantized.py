"""Dense and expert models in other formats than block FP8: material for the rows about scales and number formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.failures.tools import Config, Tensors, build, grid, llama, qwen3_moe

Make = Callable[[], tuple[Tensors, Config]]
NVFP4_GROUP = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "symmetric": True, "dynamic": False}}


def written(make: Make, data: Mapping[str, bytes] | Callable[[Tensors], Mapping[str, bytes]] | None = None) -> Callable[[Path], Path]:
    """A writer of what `make` gives, with the bytes that `data` gives."""
    def write(folder: Path) -> Path:
        tensors, config = make()
        return build(folder, tensors, config, data=data(tensors) if callable(data) else data)
    return write


def changed(make: Make, change: Callable[[Tensors, Config], None]) -> Make:
    """`make` with one change in names, dtypes or config."""
    def made() -> tuple[Tensors, Config]:
        tensors, config = make()
        change(tensors, config)
        return tensors, config
    return made


def linears(tensors: Tensors) -> list[tuple[str, tuple[int, int]]]:
    """(path, shape) of the linear layers of a model, without head and embedding."""
    return [(name.removesuffix(".weight"), (shape[0], shape[1])) for name, (_, shape) in tensors.items()
            if name.endswith("_proj.weight") or ".experts." in name and name.endswith(".weight")]


def encoded(tensors: Tensors, put: Callable[[Tensors, str, tuple[int, int]], None]) -> Tensors:
    """Every linear layer as `put` stores it."""
    paths = dict(linears(tensors))
    kept: Tensors = {}
    for name, spec in tensors.items():
        path = name.rpartition(".")[0]
        if name == path + ".weight" and path in paths:
            put(kept, path, paths[path])
        else:
            kept[name] = spec
    return kept


def dense(**sizes: Any) -> Make:
    return lambda: llama(quantize=False, **sizes)


def experts(**sizes: Any) -> Make:
    return lambda: qwen3_moe(quantize=False, **sizes)


def listed(tensors: Tensors) -> list[str]:
    """What a skip list must name: head and routers."""
    return [name.removesuffix(".weight") for name in tensors if name.endswith(("lm_head.weight", "mlp.gate.weight"))]


def modelopt_nvfp4(base: Make, inputs: bool = True) -> Make:
    def put(out: Tensors, path: str, shape: tuple[int, int]) -> None:
        out |= {path + ".weight": ("U8", (shape[0], shape[1] // 2)), path + ".weight_scale": ("F8_E4M3", (shape[0], shape[1] // 16)),
                path + ".weight_scale_2": ("F32", ())}
        if inputs:
            out[path + ".input_scale"] = ("F32", ())

    def made() -> tuple[Tensors, Config]:
        tensors, config = base()
        return encoded(tensors, put), config | {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4" if inputs else "W4A16_NVFP4",
                                                                        "ignore": listed(tensors), "group_size": 16}}
    return made


def compressed_nvfp4(base: Make) -> Make:
    def put(out: Tensors, path: str, shape: tuple[int, int]) -> None:
        out |= {path + ".weight_packed": ("U8", (shape[0], shape[1] // 2)), path + ".weight_scale": ("F8_E4M3", (shape[0], shape[1] // 16)),
                path + ".weight_global_scale": ("F32", (1,)), path + ".input_global_scale": ("F32", (1,))}

    def made() -> tuple[Tensors, Config]:
        tensors, config = base()
        group = NVFP4_GROUP | {"input_activations": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "symmetric": True, "dynamic": "local"}}
        return encoded(tensors, put), config | {"quantization_config": compressed("nvfp4-pack-quantized", group, listed(tensors))}
    return made


def compressed(form: str, group: dict[str, Any], ignore: list[str]) -> Config:
    return {"quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed", "config_groups": {"group_0": group}, "ignore": ignore}


def compressed_int4(base: Make, symmetric: bool = True, points: bool = False, dtype: str = "I32") -> Make:
    def put(out: Tensors, path: str, shape: tuple[int, int]) -> None:
        out |= {path + ".weight_packed": (dtype, (shape[0], shape[1] // (8 if dtype == "I32" else 2))), path + ".weight_scale": ("BF16", (shape[0], shape[1] // 32)),
                path + ".weight_shape": ("I64", (2,))}
        if points:
            out[path + ".weight_zero_point"] = ("I32", (shape[0] // 8, shape[1] // 32))

    def made() -> tuple[Tensors, Config]:
        tensors, config = base()
        weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": symmetric, "dynamic": False, "actorder": None}
        return encoded(tensors, put), config | {"quantization_config": compressed("pack-quantized", {"targets": ["Linear"], "weights": weights, "input_activations": None},
                                                                                 listed(tensors))}
    return made


def compressed_fp8(base: Make, strategy: str = "channel", static: bool = False, scales: bool = True) -> Make:
    """compressed-tensors FP8 with one scale per row, tensor or block; `static` with scales of activations, if `scales`."""
    def put(out: Tensors, path: str, shape: tuple[int, int]) -> None:
        out[path + ".weight"] = ("F8_E4M3", shape)
        out[path + ".weight_scale"] = ("F32", {"channel": (shape[0], 1), "tensor": (1,), "block": grid(shape)}[strategy])
        if static and scales:
            out[path + ".input_scale"] = ("F32", (1,))

    def made() -> tuple[Tensors, Config]:
        tensors, config = base()
        weights: Config = {"num_bits": 8, "type": "float", "strategy": strategy, "symmetric": True, "dynamic": False}
        if strategy == "block":
            weights["block_structure"] = [128, 128]
        inputs: Config = {"num_bits": 8, "type": "float", "strategy": "tensor" if static else "token", "symmetric": True, "dynamic": not static}
        return encoded(tensors, put), config | {"quantization_config": compressed("float-quantized", {"targets": ["Linear"], "weights": weights, "input_activations": inputs},
                                                                                 listed(tensors))}
    return made


def gptq(base: Make, version: str = "gptq", bits: int = 4) -> Make:
    def put(out: Tensors, path: str, shape: tuple[int, int]) -> None:
        rows, columns = shape
        out |= {path + ".qweight": ("I32", (columns * bits // 32, rows)), path + ".qzeros": ("I32", (columns // 128, rows * bits // 32)),
                path + ".scales": ("F16", (columns // 128, rows)), path + ".g_idx": ("I32", (columns,))}

    def made() -> tuple[Tensors, Config]:
        tensors, config = base()
        return encoded(tensors, put), config | {"quantization_config": {"quant_method": "gptq", "bits": bits, "group_size": 128, "desc_act": False, "sym": True,
                                                                        "checkpoint_format": version}}
    return made


def zeros(byte: int) -> Callable[[Tensors], dict[str, bytes]]:
    """Bytes of all qzeros."""
    return lambda tensors: {name: bytes([byte]) * (4 * shape[0] * shape[1]) for name, (_, shape) in tensors.items() if name.endswith(".qzeros")}


def shapes_of(tensors: Tensors) -> dict[str, bytes]:
    """True sizes for `weight_shape`."""
    out = {}
    for name, (dtype, shape) in tensors.items():
        if name.endswith(".weight_packed"):
            columns = shape[1] * (8 if dtype == "I32" else 2)
            out[name.removesuffix("packed") + "shape"] = shape[0].to_bytes(8, "little") + columns.to_bytes(8, "little")
    return out
