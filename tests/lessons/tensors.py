"""Small checkpoints with one weight in each kind of code, with random bytes, and what an independent reader makes of them (ml_dtypes, plain loops)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.dtypes import BITS
from weighbridge.checkpoint.store import Folder

NAME = "model.layers.0.mlp.up_proj"
TYPES = {"e4m3fn": ml_dtypes.float8_e4m3fn, "e4m3": ml_dtypes.float8_e4m3, "e5m2": ml_dtypes.float8_e5m2, "e4m3fnuz": ml_dtypes.float8_e4m3fnuz}
E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]


@dataclass
class Case:
    """One checkpoint. `code` and `value` give the code at (matrix, row, column) and its value, `scale` the factor there, all by plain means."""

    folder: Path
    name: str
    shape: tuple[int, int, int]
    block: tuple[int, int]
    code: Callable[[int, int, int], int]
    value: Callable[[int], float]
    scale: Callable[[int, int, int], np.float32]
    fmt: str
    other: dict[str, Any] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(Folder(self.folder))

    def weight(self, m: int, i: int, j: int) -> np.float32:
        with np.errstate(all="ignore"):
            return np.float32(self.value(self.code(m, i, j))) * self.scale(m, i, j)


def floats(fmt: str) -> Callable[[int], float]:
    table = np.arange(256, dtype=np.uint8).view(TYPES[fmt]).astype(np.float32)
    return lambda code: float(table[code])


def random_codes(shape: tuple[int, ...], fmt: str, seed: int = 0) -> np.ndarray:
    """Codes of gaussian values, with a zero, the largest, an odd subnormal and its negative among them; no NaN."""
    rng = np.random.default_rng(seed)
    value = np.clip(rng.standard_normal(shape) * (60 if fmt in ("e4m3", "e4m3fnuz") else 100), *((-232, 232) if fmt == "e4m3fnuz" else (-440, 440))).astype(np.float32)
    code = value.astype(TYPES[fmt]).view(np.uint8)
    if fmt == "e4m3":
        code[(code & 0x7F) >= 0x78] = 0x70
    flat = code.reshape(-1)
    flat[[1, 5, 7]] = [0x00, 0x05, 0x03]
    if fmt == "e4m3fn":
        flat[[2, 3]] = [0x7E, 0x8B]
    return code


def random_scales(shape: tuple[int, ...], seed: int = 1, base: float = 1e-4) -> np.ndarray:
    return (base * np.exp(np.random.default_rng(seed).standard_normal(shape) * 0.3)).astype(np.float32)


def write(folder: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], data: dict[str, bytes], config: dict[str, Any], **files: bytes) -> Path:
    """One safetensors file in any dtype of the format; what `data` leaves out is zero."""
    folder.mkdir(parents=True)
    header, body = {}, b""
    for name, (dtype, shape) in tensors.items():
        raw = data.get(name, bytes(BITS[dtype] * int(np.prod(shape)) // 8))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + body)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for file, content in files.items():
        (folder / f"{file}.json").write_bytes(content)
    return folder


def _case(folder: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], data: dict[str, bytes], claim: dict[str, Any], **rest: Any) -> Case:
    config = {"model_type": "nobody", "quantization_config": claim} if claim else {"model_type": "nobody"}
    write(folder, tensors, data, config)
    return Case(folder, NAME, **rest)


def fp8(folder: Path, rows: int = 64, cols: int = 96, fmt: str = "e4m3fn", scale_dtype: str = "F32", block: tuple[int, int] = (32, 32),
        outlier: tuple[int, int] | None = None, change: Callable[[np.ndarray, np.ndarray], None] | None = None) -> Case:
    """Block FP8, as HF stores it. `change` may damage (codes, scales) before they are written."""
    code = random_codes((rows, cols), fmt)
    scale = random_scales((-(-rows // block[0]), -(-cols // block[1])))
    if outlier is not None:
        scale[outlier] *= 16
    if change is not None:
        change(code, scale)
    raw = scale.astype(ml_dtypes.bfloat16) if scale_dtype == "BF16" else scale
    used = raw.astype(np.float32)
    dtype = {"e4m3fn": "F8_E4M3", "e5m2": "F8_E5M2", "e4m3fnuz": "F8_E4M3FNUZ"}[fmt]
    return _case(folder, {NAME + ".weight": (dtype, code.shape), NAME + ".weight_scale_inv": (scale_dtype, scale.shape)},
                 {NAME + ".weight": code.tobytes(), NAME + ".weight_scale_inv": raw.tobytes()},
                 {"quant_method": "fp8", "weight_block_size": list(block)}, shape=(1, rows, cols), block=block, fmt=fmt,
                 code=lambda m, i, j: int(code[i, j]), value=floats(fmt), scale=lambda m, i, j: used[i // block[0], j // block[1]])


def fp8_tensor(folder: Path) -> Case:
    code, scale = random_codes((40, 70), "e4m3fn"), np.float32(3e-4)
    return _case(folder, {NAME + ".weight": ("F8_E4M3", code.shape), NAME + ".weight_scale": ("F32", ())},
                 {NAME + ".weight": code.tobytes(), NAME + ".weight_scale": scale.tobytes()}, {"quant_method": "modelopt", "quant_algo": "FP8"},
                 shape=(1, 40, 70), block=(40, 70), fmt="e4m3fn", code=lambda m, i, j: int(code[i, j]), value=floats("e4m3fn"), scale=lambda m, i, j: scale)


def channel(folder: Path, dtype: str = "F8_E4M3") -> Case:
    """compressed-tensors, one scale for each row: FP8, or INT8."""
    whole = dtype == "I8"
    code = np.random.default_rng(3).integers(0, 256, (24, 70), np.uint8) if whole else random_codes((24, 70), "e4m3fn")
    scale = random_scales((24, 1))
    return _case(folder, {NAME + ".weight": (dtype, code.shape), NAME + ".weight_scale": ("F32", scale.shape)},
                 {NAME + ".weight": code.tobytes(), NAME + ".weight_scale": scale.tobytes()},
                 {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8, "strategy": "channel"}}}},
                 shape=(1, 24, 70), block=(1, 70), fmt="int8" if whole else "e4m3fn", code=lambda m, i, j: int(code[i, j]),
                 value=(lambda c: float(c - 256 if c > 127 else c)) if whole else floats("e4m3fn"), scale=lambda m, i, j: scale[i, 0])


def mxfp8(folder: Path) -> Case:
    code = random_codes((20, 128), "e4m3fn")
    power = np.random.default_rng(4).integers(110, 116, (20, 4), np.uint8)
    return _case(folder, {NAME + ".weight": ("F8_E4M3", code.shape), NAME + ".weight_scale_inv": ("U8", power.shape)},
                 {NAME + ".weight": code.tobytes(), NAME + ".weight_scale_inv": power.tobytes()}, {"quant_method": "fp8"},
                 shape=(1, 20, 128), block=(1, 32), fmt="e4m3fn", code=lambda m, i, j: int(code[i, j]), value=floats("e4m3fn"),
                 scale=lambda m, i, j: np.float32(2.0 ** (int(power[i, j // 32]) - 127)))


def _nibble(raw: np.ndarray, flat: int) -> int:
    byte = int(raw.reshape(-1)[flat // 2])
    return byte >> 4 if flat % 2 else byte & 15


def mxfp4_blocks(folder: Path) -> Case:
    """gpt-oss: [E, rows, groups, 16 bytes] and scales [E, rows, groups]."""
    rng = np.random.default_rng(5)
    raw, power = rng.integers(0, 256, (2, 24, 3, 16), np.uint8), rng.integers(118, 124, (2, 24, 3), np.uint8)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    case = _case(folder, {name + "_blocks": ("U8", raw.shape), name + "_scales": ("U8", power.shape)},
                 {name + "_blocks": raw.tobytes(), name + "_scales": power.tobytes()}, {"quant_method": "mxfp4"},
                 shape=(2, 24, 96), block=(1, 32), fmt="e2m1", code=lambda m, i, j: _nibble(raw[m, i], j), value=E2M1.__getitem__,
                 scale=lambda m, i, j: np.float32(2.0 ** (int(power[m, i, j // 32]) - 127)))
    case.name = name
    return case


def nvfp4(folder: Path, divides: bool = False) -> Case:
    """ModelOpt multiplies by weight_scale_2; compressed-tensors divides by weight_global_scale."""
    rng = np.random.default_rng(6)
    raw = rng.integers(0, 256, (32, 32), np.uint8)
    group = np.clip(np.abs(rng.standard_normal((32, 4))) * 100 + 1, 1, 400).astype(np.float32).astype(ml_dtypes.float8_e4m3fn)
    second = np.array([1234.5 if divides else 0.0007], np.float32)
    weight, beside = (".weight_packed", ".weight_global_scale") if divides else (".weight", ".weight_scale_2")
    used = group.astype(np.float32) / second[0] if divides else group.astype(np.float32) * second[0]
    return _case(folder, {NAME + weight: ("U8", raw.shape), NAME + ".weight_scale": ("F8_E4M3", group.shape), NAME + beside: ("F32", (1,))},
                 {NAME + weight: raw.tobytes(), NAME + ".weight_scale": group.tobytes(), NAME + beside: second.tobytes()},
                 {"quant_method": "compressed-tensors" if divides else "modelopt", "group_size": 16},
                 shape=(1, 32, 64), block=(1, 16), fmt="e2m1", code=lambda m, i, j: _nibble(raw[i], j), value=E2M1.__getitem__, scale=lambda m, i, j: used[i, j // 16])


def int4(folder: Path, **helpers: tuple[str, tuple[int, ...]]) -> Case:
    """pack-quantized: eight codes in a word, the real width (60) in weight_shape."""
    rng = np.random.default_rng(7)
    words, scale = rng.integers(0, 1 << 32, (16, 8), np.uint32), random_scales((16, 2))
    claim = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"g": {"weights": {"num_bits": 4, "strategy": "group", "group_size": 32}}}}
    tensors = {NAME + ".weight_packed": ("I32", words.shape), NAME + ".weight_scale": ("F32", scale.shape), NAME + ".weight_shape": ("I64", (2,))}
    tensors |= {f"{NAME}.{helper}": spec for helper, spec in helpers.items()}
    return _case(folder, tensors, {NAME + ".weight_packed": words.tobytes(), NAME + ".weight_scale": scale.tobytes(), NAME + ".weight_shape": np.array([16, 60], np.int64).tobytes()},
                 claim, shape=(1, 16, 60), block=(1, 32), fmt="uint4-8", code=lambda m, i, j: int(words[i, j // 8]) >> 4 * (j % 8) & 15, value=lambda c: float(c - 8),
                 scale=lambda m, i, j: scale[i, j // 32])


def neuron(folder: Path, per_row: bool = False) -> Case:
    """NxD's stack of experts: [E, H, 2I], codes up to 240, blocks turned; or one scale for each column (published per-row scales, turned)."""
    code = random_codes((2, 32, 64), "e4m3")
    scale = random_scales((2, 1, 64) if per_row else (2, 2, 2))
    name = "layers.0.block_sparse_moe.expert_mlps.mlp_op.gate_up_proj"
    write(folder, {name + ".weight": ("F8_E4M3", code.shape), name + ".scale": ("F32", scale.shape)},
          {name + ".weight": code.tobytes(), name + ".scale": scale.tobytes()}, {"model_type": "nobody"},
          neuron_config=json.dumps({"quantized": True, "quantization_dtype": "f8e4m3", "quantization_block_size": [32, 16]}).encode())
    high, wide = (32, 1) if per_row else (16, 32)
    return Case(folder, name, (2, 32, 64), (high, wide), lambda m, i, j: int(code[m, i, j]), floats("e4m3"), lambda m, i, j: scale[m, i // high, j // wide], "e4m3")


def plain(folder: Path, dtype: str, rows: int = 150, cols: int = 200, change: Callable[[np.ndarray], None] | None = None) -> tuple[Checkpoint, np.ndarray]:
    value = (np.random.default_rng(8).standard_normal((rows, cols)) * 0.05).astype({"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32, "F64": np.float64}[dtype])
    if change is not None:
        change(value)
    write(folder, {NAME + ".weight": (dtype, value.shape)}, {NAME + ".weight": value.tobytes()}, {"model_type": "nobody"})
    return Checkpoint(Folder(folder)), value


CASES: dict[str, Callable[[Path], Case]] = {
    "block": fp8, "block-outlier": lambda folder: fp8(folder, outlier=(1, 2)), "ragged-bf16-scales": lambda folder: fp8(folder, 136, 150, scale_dtype="BF16", block=(128, 128)),
    "e5m2": lambda folder: fp8(folder, fmt="e5m2"), "fnuz": lambda folder: fp8(folder, fmt="e4m3fnuz"), "tensor": fp8_tensor, "channel": channel,
    "int8": lambda folder: channel(folder, "I8"), "mxfp8": mxfp8, "mxfp4-blocks": mxfp4_blocks, "nvfp4": nvfp4, "nvfp4-divides": lambda folder: nvfp4(folder, True),
    "int4": int4, "neuron": neuron, "neuron-per-row": lambda folder: neuron(folder, True),
}
