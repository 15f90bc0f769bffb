"""The dtypes of safetensors files, as the format spells them (safetensors 0.8, `Dtype`)."""

from __future__ import annotations

BITS: dict[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}

FP8 = frozenset({"F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})
LARGEST = (1 << 64) - 1  # the reference counts sizes, elements and bits in 64 bits
MOST_AXES = 64  # numpy and torch make no array with more


def nbytes(dtype: str, shape: tuple[int, ...]) -> int | None:
    """Bytes of a tensor; None where the shape has a negative size, fills no whole byte, or its elements or bits do not fit into 64 bits.

    The product is taken from the first axis on, as the reference does: [2^40, 2^40, 0] does not fit, [0, 2^40, 2^40] has no bytes.
    """
    count = 1
    for size in shape:
        if size < 0:
            return None
        count *= size
        if count > LARGEST or size > LARGEST:
            return None
    bits = count * BITS[dtype]
    return bits // 8 if bits % 8 == 0 and bits <= LARGEST else None
