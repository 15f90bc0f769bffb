"""Small random MiniMax-M2 checkpoints in the published layout, made in milliseconds.

    write_tiny(folder)                  # the sizes of EVEN
    write_tiny(folder, **RAGGED)
    write_tiny(folder, **EVEN, encoding="bf16")

Every weight has its own gaussian values; norms are near 1, the router is float32, and the router's bias is 8 to 9.5
as in the published model, so that a dropped bias shows.
"""
from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from . import safetensors_writer, shapes
from .quantize import quantize_blocks, to_bytes

# All widths are multiples of 128, and TP 4 and 8 must pad the six heads.
EVEN = {"hidden": 256, "inter": 256, "heads": 6, "kv_heads": 2, "head_dim": 128, "experts": 8, "layers": 2}
# No matrix is a multiple of 128 in both directions: 1.5, 4.5 and 0.5 blocks.
RAGGED = {"hidden": 192, "inter": 576, "heads": 6, "kv_heads": 2, "head_dim": 32, "experts": 4, "layers": 2}


def write_tiny(
    out: Path | str, *, hidden: int = 256, inter: int = 256, layers: int = 2, heads: int = 6, kv_heads: int = 2,
    head_dim: int = 128, experts: int = 8, vocab: int = 512, scale_dtype: str = "F32", encoding: str = "fp8",
    seed: int = 0, shards: int = 2, config: dict | None = None,
) -> Path:
    """Writes the checkpoint into the folder `out` and returns it. Same arguments, same bytes.

    `encoding`: "fp8" (128 x 128 blocks) or "bf16" (the same weights before quantization, no scales).
    `scale_dtype`: "F32" or "BF16". `config`: keys that are to differ in config.json.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    sizes = shapes.Sizes(layers, hidden, inter, heads, kv_heads, head_dim, experts, vocab)
    runs = shapes.deal(list(shapes.tensors(sizes, encoding, scale_dtype)), shards)
    data = _values([spec for run in runs for spec in run], seed)
    for number, run in enumerate(runs):
        tensors = {spec.name: (spec.dtype, spec.shape, data[spec.name]) for spec in run}
        safetensors_writer.write_file(out / shapes.shard_name(number, len(runs)), tensors)
    shapes.write_side_files(out, sizes, encoding, runs, config)
    return out


def _values(specs: list[shapes.Spec], seed: int) -> dict[str, bytes]:
    scale_dtypes = {spec.name: spec.dtype for spec in specs if spec.is_scale}
    data = {}
    for spec in specs:
        if spec.is_scale:
            continue
        values = original(spec, seed)
        if spec.dtype == "F8_E4M3":
            scale = spec.name.removesuffix("weight") + shapes.SCALE
            codes, scales = quantize_blocks(values, shapes.BLOCK, scale_dtypes[scale])
            data[spec.name], data[scale] = codes.tobytes(), to_bytes(scales, scale_dtypes[scale])
        else:
            data[spec.name] = to_bytes(values, spec.dtype)
    return data


def original(spec: shapes.Spec, seed: int) -> np.ndarray:
    """The float32 values of a tensor before it is encoded. They hang on its name and shape and on the seed alone."""
    random = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    if spec.name.endswith("e_score_correction_bias"):
        return random.uniform(8, 9.5, spec.shape).astype(np.float32)
    values = random.standard_normal(spec.shape, dtype=np.float32)
    if "norm" in spec.name:
        return 1 + np.float32(0.1) * values
    return values * np.float32(spec.shape[-1] ** -0.5)
