"""Kinds of encodings in one word each: what pictures colour by and legends name."""

from __future__ import annotations


def kind_of(dtype: str, quantized: bool | None = None, codes: int = 1) -> str:
    """fp8, fp4 (FP6 too), int8, int4, coded (other codes), bf16, f16, f32 or plain.

    `dtype` is spelled as safetensors does; `quantized` says that a scale goes with it (None: by the dtype); `codes` is how many values one
    stored element holds.
    """
    if dtype.startswith("F8"):
        return "fp8"
    if dtype.startswith(("F4", "F6")):
        return "fp4"
    if quantized and dtype in ("U8", "I8", "I32", "I64", "U32", "I16"):
        if dtype == "U8" or (dtype == "I8" and codes == 2):
            return "fp4"
        return "int8" if dtype == "I8" or (dtype in ("I32", "U32") and codes == 4) else "int4"
    return {"BF16": "bf16", "F16": "f16", "F32": "f32", "F64": "f32"}.get(dtype, "coded" if quantized else "plain")
