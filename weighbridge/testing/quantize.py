"""Block quantization for test checkpoints, in ml_dtypes alone: a second opinion on the tool's own encodings."""
from __future__ import annotations

import ml_dtypes
import numpy as np

LARGEST = np.float32(448)


def quantize_blocks(weight_NK: np.ndarray, block: int = 128, scale_dtype: str = "F32") -> tuple[np.ndarray, np.ndarray]:
    """Quantizes float32 [N, K] to FP8 codes, uint8 [N, K], and scales, float32 [ceil(N/block), ceil(K/block)].

    A scale is amax / 448 of its block, so the largest code is 0x7E or 0xFE, and what remains of a block that goes
    past the edge is a block. For `scale_dtype` "BF16" the scale is rounded first: 448 may then be out of reach, or
    passed, and codes stop at 448. A block of zeros has the scale 1.
    """
    rows, columns = weight_NK.shape
    high, wide = -(-rows // block), -(-columns // block)
    padded = np.zeros((high * block, wide * block), np.float32)
    padded[:rows, :columns] = weight_NK
    blocks = padded.reshape(high, block, wide, block)
    amax = np.abs(blocks).max(axis=(1, 3))
    scale_NbKb = np.where(amax > 0, amax / LARGEST, np.float32(1)).astype(np.float32)
    if scale_dtype == "BF16":
        scale_NbKb = scale_NbKb.astype(ml_dtypes.bfloat16).astype(np.float32)
    scaled = np.clip(blocks / scale_NbKb[:, None, :, None], -LARGEST, LARGEST)
    codes = scaled.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    return codes.reshape(padded.shape)[:rows, :columns], scale_NbKb


def to_bytes(values: np.ndarray, dtype: str) -> bytes:
    """The bytes of float values in a dtype of safetensors, rounded to nearest."""
    kinds = {"F32": np.dtype("<f4"), "BF16": np.dtype(ml_dtypes.bfloat16)}
    return values.astype(kinds[dtype]).tobytes()
