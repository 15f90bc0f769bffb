"""The dtypes of safetensors files, as the format spells them (safetensors 0.8, `Dtype`)."""

from __future__ import annotations

BITS: dict[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}

FP8 = frozenset({"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})


def nbytes(dtype: str, shape: tuple[int, ...]) -> int | None:
    """Bytes of a tensor, or None where the shape has a negative size or fills no whole byte."""
    bits = BITS[dtype]
    for size in shape:
        if size < 0:
            return None
        bits *= size
    return bits // 8 if bits % 8 == 0 else None
